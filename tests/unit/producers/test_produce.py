"""The runner: on time, bounded, in order, and nothing dropped without being counted."""

import asyncio
from collections import deque

import pytest

from headrace.schemas.errors import BusRefusedError, BusUnavailableError
from headrace.streams.producers.produce import Record, produce


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await asyncio.sleep(0)


class Numbers:
    """Gives numbered records and remembers when it was asked; `slow_s` per reading."""

    def __init__(
        self, clock: Clock, *, rows: int = 1, end: int = 10**9, slow_s: float = 0.0
    ) -> None:
        self._clock, self._rows, self._end = clock, rows, end
        self._slow = deque([slow_s])
        self.taken_at_s: list[float] = []
        self.given = 0

    def take(self) -> list[Record] | None:
        self.taken_at_s.append(round(self._clock.now_s - 100.0, 6))
        if self._slow:
            self._clock.now_s += self._slow.popleft()
        if self.given >= self._end:
            return None
        self.given += self._rows
        return [Record(b"k", b"%d" % n) for n in range(self.given - self._rows, self.given)]


class Kept:
    """A sink that keeps values; `refuse` errors are raised first, one per call."""

    def __init__(self, *refuse: Exception) -> None:
        self.values: list[bytes] = []
        self._refuse = deque(refuse)

    async def send(self, key: bytes | None, value: bytes) -> None:
        await asyncio.sleep(0)
        if self._refuse:
            raise self._refuse.popleft()
        self.values.append(value)


class Stuck:
    """A sink that accepts nothing until it is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.values: list[bytes] = []

    async def send(self, key: bytes | None, value: bytes) -> None:
        await self.open.wait()
        self.values.append(value)


async def test_readings_are_at_their_intended_times() -> None:
    """The k-th reading is at start + k / rate, and the end is not stretched."""
    clock = Clock()
    source, sink = Numbers(clock), Kept()
    done = await produce(source, sink, rate_hz=10, seconds=0.5, clock=clock, sleep=clock.sleep)
    assert source.taken_at_s == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert (done.sent, done.skipped, done.dropped) == (5, 0, 0)


async def test_a_late_source_skips_times_and_counts_them() -> None:
    """After a reading of 0.35 s, the three missed times are skipped: no burst, no drift."""
    clock = Clock()
    source = Numbers(clock, slow_s=0.35)
    done = await produce(source, Kept(), rate_hz=10, seconds=0.8, clock=clock, sleep=clock.sleep)
    assert source.taken_at_s == pytest.approx([0.0, 0.35, 0.4, 0.5, 0.6, 0.7])
    assert done.skipped == 2
    assert done.late_s == pytest.approx(0.25)


async def test_the_end_of_a_source_ends_the_run_in_order() -> None:
    """Every record of a finite source arrives once, in order."""
    clock, sink = Clock(), Kept()
    source = Numbers(clock, rows=7, end=700)
    done = await produce(source, sink, rate_hz=100, clock=clock, sleep=clock.sleep)
    assert sink.values == [b"%d" % n for n in range(700)]
    assert done.sent == 700


async def test_a_stuck_sink_costs_the_oldest_records_counted() -> None:
    """The source goes on; what found no room is dropped from the old end and counted."""
    clock, sink = Clock(), Stuck()
    source = Numbers(clock, rows=10)
    run = asyncio.create_task(
        produce(
            source, sink, rate_hz=10, seconds=2.0, buffer_rows=50, clock=clock, sleep=clock.sleep
        )
    )
    while source.given < 200:
        await asyncio.sleep(0)
    sink.open.set()
    done = await run
    assert done.dropped > 0
    assert done.sent + done.dropped == source.given == 200
    assert sink.values[-50:] == [b"%d" % n for n in range(150, 200)]


async def test_a_retryable_error_repeats_the_same_record() -> None:
    """A sink that is away for a while loses nothing and reorders nothing."""
    clock = Clock()
    sink = Kept(BusUnavailableError("away"), BusUnavailableError("away", retry_after_s=3.0))
    done = await produce(Numbers(clock, end=5), sink, rate_hz=100, clock=clock, sleep=clock.sleep)
    assert sink.values == [b"0", b"1", b"2", b"3", b"4"]
    assert done.sent == 5
    assert clock.now_s >= 103.5


async def test_a_fatal_error_of_the_sink_ends_the_run() -> None:
    """A refused bus is not retried, and no task is left behind."""
    clock, sink = Clock(), Kept(BusRefusedError("refused"))
    tasks = asyncio.all_tasks()
    with pytest.raises(BusRefusedError):
        await produce(Numbers(clock), sink, rate_hz=10, seconds=5, clock=clock, sleep=clock.sleep)
    assert asyncio.all_tasks() == tasks


async def test_an_error_of_the_source_ends_the_run() -> None:
    """A source that raises is not mistaken for one that ended."""

    class Broken:
        def take(self) -> list[Record] | None:
            raise OSError("gone")

    clock = Clock()
    with pytest.raises(OSError, match="gone"):
        await produce(Broken(), Kept(), rate_hz=10, clock=clock, sleep=clock.sleep)


async def test_cancelling_leaves_nothing_running() -> None:
    """A cancelled run takes its reader and its sender with it."""
    clock, tasks = Clock(), asyncio.all_tasks()
    run = asyncio.create_task(
        produce(Numbers(clock), Stuck(), rate_hz=10, clock=clock, sleep=clock.sleep)
    )
    for _ in range(20):
        await asyncio.sleep(0)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert asyncio.all_tasks() == tasks
