"""A fault, carried out: the blow, the time it lasts, the repair."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from headrace.streams.drill.kinds import TRAITS, Kind
from headrace.streams.drill.load import Mood
from headrace.streams.drill.orders import Orders, give
from headrace.streams.drill.schedule import Fault
from headrace.streams.drill.sender import Sender
from headrace.streams.drill.services import Services
from headrace.streams.drill.target import Target
from headrace.streams.drill.workers import Workers

SURGE_ROWS = 6000
MOOD_ROWS = 2000

MOODS: Mapping[Kind, Mood] = {
    "input-repeated": "repeated",
    "input-reordered": "reordered",
    "input-corrupted": "corrupted",
}
ORDERS: Mapping[Kind, Orders] = {
    "model-slow": Orders(slow_s=0.5),
    "model-raises": Orders(raises=True),
    "clock-jump": Orders(ahead_s=86_400.0),
}
FEED_ROWS, FEED_S = 2000, 0.5
"""What a life gets that is to end at a crash point, and how often: at least once. Batches are as
many as the load makes, and a life that took a backlog in few has nothing left to do. A window is
published when event time is past it by the allowed lateness, which at the load's own rate may take
longer than `REACH_S`."""

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


@dataclass(frozen=True, slots=True)
class Scene:
    """Where faults strike.

    Attributes:
        target: The pipeline.
        sender: Its load.
        workers: Its workers.
        services: Its bus and store.
    """

    target: Target
    sender: Sender
    workers: Workers
    services: Services


async def strike(fault: Fault, scene: Scene) -> Struck:
    """Carry out one fault; it is repaired on return, recovered later.

    Raises:
        FatalError: a worker ended for good, or a service did not come back.
    """
    if fault.when != "any":
        await scene.workers.ready()
    surge = scene.sender.send(SURGE_ROWS if fault.when == "surge" else 0)
    async with unless_failed(surge):
        await asyncio.sleep(fault.after_s)
        reached = await _blow(fault, scene)
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


async def _blow(fault: Fault, scene: Scene) -> bool:
    """Strike and repair; whether the crash points, if any, were reached."""
    workers, on = scene.workers, TRAITS[fault.kind].on
    if fault.kind in ("kill", "store-lost"):
        return await _kill(fault, scene)
    if fault.kind == "pause":
        await workers.pause(*fault.victims, for_s=fault.down_s)
    elif on == "worker" or on == "group":
        await _leave(fault, scene)
    elif on == "input":
        await scene.sender.send(MOOD_ROWS, MOODS[fault.kind])
    elif fault.kind in ORDERS:
        give(scene.target.orders, ORDERS[fault.kind])
        await asyncio.sleep(fault.down_s)
        give(scene.target.orders, Orders())
    else:
        await scene.services.strike(fault.kind, fault.down_s)
    return True


async def _leave(fault: Fault, scene: Scene) -> None:
    """Workers end in order and come back, to a group that may be gone."""
    workers = scene.workers
    await workers.ready(*fault.victims)
    await workers.terminate(*fault.victims)
    if fault.kind == "group-deleted":
        await scene.target.forget_group(fault.victims[0].partition("-")[0])
    await asyncio.sleep(fault.down_s)
    workers.start(*fault.victims)


async def _kill(fault: Fault, scene: Scene) -> bool:
    workers = scene.workers
    workers.kill(*fault.victims)
    if fault.kind == "store-lost":
        await scene.services.empty_store()
    await asyncio.sleep(fault.down_s)
    if not fault.points:
        workers.start(*fault.victims)
        return True
    ends = zip(fault.victims, fault.points, strict=False)
    reached = await asyncio.gather(*(_live_until(victim, point, scene) for victim, point in ends))
    workers.start(*fault.victims[len(fault.points) :])
    return all(reached)


async def _live_until(victim: str, point: str, scene: Scene) -> bool:
    """A life that ends at a crash point, and the one after it; whether it came so far."""
    workers = scene.workers
    workers.start(victim, crash_at=point)
    over = asyncio.Event()
    feeding = asyncio.create_task(_feed(victim, scene, over))
    try:
        reached = await workers.died(victim, within_s=REACH_S)
    finally:
        over.set()  # not cancelled: what was made has to be sent
        await feeding
    workers.start(victim)
    return reached


async def _feed(victim: str, scene: Scene, over: asyncio.Event) -> None:
    """Go on with the load for a worker, from when it is ready until it is over."""
    while not over.is_set():
        if scene.workers.is_ready(victim):
            await scene.sender.send(FEED_ROWS)
        await asyncio.sleep(FEED_S)
