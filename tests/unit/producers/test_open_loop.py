"""The open loop: on time whatever the bus does, in order, and nothing lost."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from headrace.schemas.errors import BusRefusedError, BusUnavailableError
from headrace.schemas.pipeline import load_pipeline
from headrace.streams.cli.context import pipeline_file
from headrace.streams.producers import open_loop
from headrace.streams.producers.fleet import Block, Fleet
from headrace.streams.producers.open_loop import OpenLoop
from headrace.streams.producers.plan import Plan

PRESS = load_pipeline(pipeline_file("press"))
START_MS = 1_795_255_200_000
PARTITIONS = 3


class Clock:
    """A clock that runs a hundred times as fast as the loop's, from the start of the run."""

    def __init__(self, begin_ms: int = START_MS) -> None:
        self._loop, self._begin_s = asyncio.get_running_loop(), begin_ms / 1000
        self._at_s = self._loop.time()

    def __call__(self) -> float:
        return self._begin_s + 100 * (self._loop.time() - self._at_s)


class Written:
    """A bus that keeps what it is given; `refuse` is raised first, one error a call."""

    idempotent = True

    def __init__(self, *refuse: Exception, stuck: asyncio.Event | None = None) -> None:
        self.values: dict[int, list[bytes]] = {p: [] for p in range(PARTITIONS)}
        self._refuse, self._stuck = list(refuse), stuck

    async def start(self) -> int:
        return PARTITIONS

    async def stop(self) -> None:
        return

    async def write(
        self,
        partition: int,
        keys: Sequence[bytes | None],
        values: Sequence[bytes],
        headers: Sequence[object],
    ) -> list[int]:
        if self._stuck is not None:
            await self._stuck.wait()
        await asyncio.sleep(0)
        if self._refuse:
            raise self._refuse.pop()
        assert len(keys) == len(values) == len(headers)
        self.values[partition] += values
        return list(range(len(values)))


def blocks(plan: Plan) -> list[Block]:
    fleet, found = Fleet(plan, PRESS, PARTITIONS, START_MS), []
    while (block := fleet.take()) is not None:
        found.append(block)
    return found


def by_partition(made: list[Block]) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {p: [] for p in range(PARTITIONS)}
    for block in made:
        for partition, value in zip(block.partitions.tolist(), block.values, strict=False):
            found[partition].append(value)
    return found


async def test_everything_arrives_in_order_and_not_before_its_time() -> None:
    """Each partition gets its events in the order of the plan; none is early."""
    made, kept, bus = blocks(Plan(rate_per_s=400, seconds=3)), [], Written()
    loop = OpenLoop(bus, PARTITIONS, now=Clock())
    await loop.run(made, START_MS, asyncio.Event(), kept.append)

    assert bus.values == by_partition(made)
    assert kept == made
    assert loop.sent.events == sum(len(block.values) for block in made)
    assert loop.sent.lateness.count == loop.sent.events
    assert (loop.sent.resent, loop.waiting) == (0, 0)


async def test_an_error_that_passes_loses_nothing() -> None:
    """A request that fails is repeated whole and counted; the order stays."""
    made = blocks(Plan(rate_per_s=400, seconds=1))
    bus = Written(BusUnavailableError("away", retry_after_s=0.01))
    loop = OpenLoop(bus, PARTITIONS, now=Clock())
    await loop.run(made, START_MS, asyncio.Event(), lambda _: None)

    assert bus.values == by_partition(made)
    assert loop.sent.resent > 0


async def test_an_error_that_stays_ends_the_run() -> None:
    """A bus that refuses is not asked again, and no task is left behind."""
    tasks = asyncio.all_tasks()
    loop = OpenLoop(Written(BusRefusedError("refused")), PARTITIONS, now=Clock())
    with pytest.raises(BusRefusedError):
        await loop.run(
            blocks(Plan(rate_per_s=400, seconds=1)), START_MS, asyncio.Event(), lambda _: None
        )
    assert asyncio.all_tasks() == tasks


async def test_a_stuck_bus_bounds_what_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more is made than may wait; once the bus goes on all of it arrives, and is late."""
    monkeypatch.setattr(open_loop, "MAX_WAITING", 100)
    made, stuck = blocks(Plan(rate_per_s=2000, seconds=2)), asyncio.Event()
    bus, taken = Written(stuck=stuck), []
    loop = OpenLoop(bus, PARTITIONS, now=Clock(START_MS + 10_000))

    def feed():
        for block in made:
            taken.append(block)
            yield block

    run = asyncio.create_task(loop.run(feed(), START_MS, asyncio.Event(), lambda _: None))
    while loop.waiting <= 100:
        await asyncio.sleep(0)
    for _ in range(200):
        await asyncio.sleep(0)
    largest = max(len(block.values) for block in made)
    assert len(taken) < len(made)
    assert loop.waiting <= 100 + largest
    stuck.set()
    await run

    assert bus.values == by_partition(made)
    assert loop.sent.most_waiting <= 100 + largest
    assert loop.sent.lateness.quantile(0.5) > 5000


async def test_stopping_sends_what_was_made() -> None:
    """After `stop`, what the ledger was told of is on the bus, and nothing else."""
    made, kept, stop = blocks(Plan(rate_per_s=400, seconds=20)), [], asyncio.Event()
    bus = Written()
    loop = OpenLoop(bus, PARTITIONS, now=Clock())

    def keep(block: Block) -> None:
        kept.append(block)
        if len(kept) == 20:
            stop.set()

    await loop.run(made, START_MS, stop, keep)

    assert 20 <= len(kept) < 30
    assert bus.values == by_partition(kept)


async def test_events_wait_for_their_time() -> None:
    """With the run a long way off nothing is sent, whatever has been made."""
    bus = Written()
    loop = OpenLoop(bus, PARTITIONS, now=Clock(START_MS - 10_000_000))
    made = blocks(Plan(rate_per_s=400, seconds=1))
    run = asyncio.create_task(loop.run(made, START_MS, asyncio.Event(), lambda _: None))
    await asyncio.sleep(0.05)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run

    assert not any(bus.values.values())
    assert np.isnan(loop.sent.lateness.quantile(0.5))
