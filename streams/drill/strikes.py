"""A fault, carried out: the blow, the time it lasts, the repair."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass

from headrace.streams.drill.schedule import Fault
from headrace.streams.drill.sender import Sender
from headrace.streams.drill.services import Services
from headrace.streams.drill.workers import Workers

SURGE_ROWS = 6000
REACH_S = 45.0
"""Longest wait for a worker to come to its crash point under load; then it is killed there. Where
the other stage is struck as well, two sessions have to end before."""


@dataclass
class Struck:
    """What became of a fault.

    Attributes:
        fault: It.
        repaired_at_s: When everything it struck was there again, monotonic seconds.
        reached: Every victim came to its crash point; True where there is none.
        recovered_s: Time from the repair until everything that was sent before it had gone through
            both stages, seconds, to within half a second; None until then.
    """

    fault: Fault
    repaired_at_s: float
    reached: bool = True
    recovered_s: float | None = None


async def strike(fault: Fault, sender: Sender, workers: Workers, services: Services) -> Struck:
    """Carry out one fault; it is repaired on return, recovered later.

    Raises:
        FatalError: a worker ended for good, or a service did not come back.
    """
    if fault.when != "any":
        await workers.ready()
    async with unless_failed(sender.send(SURGE_ROWS if fault.when == "surge" else 0)):
        await asyncio.sleep(fault.after_s)
        reached = await _blow(fault, workers, services)
        repaired_at_s = time.monotonic()
    return Struck(fault, repaired_at_s, reached)


@asynccontextmanager
async def unless_failed(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Do something beside the body and wait for it; given up where the body failed.

    A bus that did not come back would be waited for without end.
    """
    task = asyncio.create_task(work)
    try:
        yield
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _blow(fault: Fault, workers: Workers, services: Services) -> bool:
    """Strike and repair; whether the crash points, if any, were reached."""
    if fault.kind == "pause":
        await workers.pause(*fault.victims, for_s=fault.down_s)
    elif fault.kind == "bus-restart":
        await services.restart_bus(fault.down_s)
    elif fault.kind == "store-restart":
        await services.restart_store(fault.down_s)
    elif fault.kind == "rebalance":
        await workers.ready(*fault.victims)
        await workers.terminate(*fault.victims)
        await asyncio.sleep(fault.down_s)
        workers.start(*fault.victims)
    else:
        return await _kill(fault, workers, services)
    return True


async def _kill(fault: Fault, workers: Workers, services: Services) -> bool:
    workers.kill(*fault.victims)
    if fault.kind == "store-lost":
        await services.empty_store()
    await asyncio.sleep(fault.down_s)
    if not fault.points:
        workers.start(*fault.victims)
        return True
    ends = zip(fault.victims, fault.points, strict=True)
    return all(
        await asyncio.gather(*(_live_until(victim, point, workers) for victim, point in ends))
    )


async def _live_until(victim: str, point: str, workers: Workers) -> bool:
    """A life that ends at a crash point, and the one after it; whether it came so far."""
    workers.start(victim, crash_at=point)
    reached = await workers.died(victim, within_s=REACH_S)
    workers.start(victim)
    return reached
