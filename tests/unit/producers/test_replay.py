"""Replays: at their pace, in order, stopped and resumed without a loss."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes.memory_bus import MemoryBus
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.errors import SettingsError
from headrace.schemas.input import Input, Metric
from headrace.streams.client import Producer, Record
from headrace.streams.producers.file_place import load_place, save_place
from headrace.streams.producers.file_rows import open_rows
from headrace.streams.producers.pace import Pace
from headrace.streams.producers.replay import CHUNK_ROWS, Replay, Replayed

SPEC = Input(metrics={"t": Metric()}, time_unit="ms")
BEGIN_MS = 1_795_255_200_000


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 1e9
        self.sleeps = 0

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.sleeps += 1
        await asyncio.sleep(0)


class Kept:
    """What was sent, and when by the clock."""

    def __init__(self, clock: Clock) -> None:
        self.bus, self._clock = MemoryBus(), clock
        self.bus.create("t", 1)
        self.at_s: list[float] = []
        append = self.bus.append

        async def timed(topic: str, partition: int, rows: Any) -> int:
            self.at_s += [clock.now_s] * len(rows)
            return await append(topic, partition, rows)

        self.bus.append = timed  # type: ignore[method-assign]

    @property
    def values(self) -> list[bytes]:
        return [value for _, value, _ in self.bus.topics["t"].partitions[0]]


def written(file: Path, times_ms: list[int]) -> list[bytes]:
    lines = [b'{"device_id":"a","n":%d,"time":%d}' % pair for pair in enumerate(times_ms)]
    file.write_bytes(b"\n".join(lines))
    return lines


async def replayed(
    file: Path,
    kept: Kept,
    clock: Clock,
    *,
    begin: tuple[int, int] = (0, 0),
    stop: Callable[[Replayed], bool] | None = None,
    judge: Callable[[list[Record]], dict[int, str]] | None = None,
    **pace: Any,
) -> Replayed:
    options = {"speed": None, "rate_per_s": None, "shift": False} | pace
    rows, stopping = open_rows(file, SPEC), asyncio.Event()
    replay = Replay(rows, Pace(**options, now=clock), judge=judge, now=clock, sleep=clock.sleep)

    async def watch() -> None:
        while stop is not None and not stop(replay.done):
            await asyncio.sleep(0)
        if stop is not None:
            stopping.set()

    watching = asyncio.create_task(watch())
    try:
        async with Producer(kept.bus, "t", validate=False, trace=False, linger_ms=0) as producer:
            return await replay.run(producer, stopping, begin=begin[0], number=begin[1])
    finally:
        watching.cancel()
        rows.close()


async def test_at_its_own_pace(tmp_path: Path) -> None:
    """Ten times as fast: no event before its tenth of the time, and none long after."""
    clock, file = Clock(), tmp_path / "e.ndjson"
    kept = Kept(clock)
    lines = written(file, [BEGIN_MS + 1000 * n for n in (0, 1, 5, 5, 20)])

    done = await replayed(file, kept, clock, speed=10.0)

    assert kept.values == lines
    since = [at - kept.at_s[0] for at in kept.at_s]
    due = [0.0, 0.1, 0.5, 0.5, 2.0]
    assert all(-1e-6 <= at - want <= 0.01 for at, want in zip(since, due, strict=True))
    assert (done.sent, done.bad, done.number) == (5, 0, 5)


async def test_an_older_event_is_due_with_the_one_before(tmp_path: Path) -> None:
    """The file's order is kept; what is out of order waits for nobody."""
    clock, file = Clock(), tmp_path / "e.ndjson"
    kept = Kept(clock)
    lines = written(file, [BEGIN_MS, BEGIN_MS + 1000, BEGIN_MS - 9000, BEGIN_MS + 2000])

    await replayed(file, kept, clock, speed=1.0)

    assert kept.values == lines
    assert [round(at - kept.at_s[0], 2) for at in kept.at_s] == [0.0, 1.0, 1.0, 2.0]


async def test_at_a_rate(tmp_path: Path) -> None:
    """A hundred rows at 50 a second take two seconds, whatever their times say."""
    clock, file = Clock(), tmp_path / "e.ndjson"
    kept = Kept(clock)
    written(file, [BEGIN_MS] * 101)

    await replayed(file, kept, clock, rate_per_s=50.0)

    assert kept.at_s[-1] - kept.at_s[0] == pytest.approx(2.0, abs=0.02)


async def test_at_once(tmp_path: Path) -> None:
    """Without a pace nothing waits, and every row is there in order."""
    clock, file = Clock(), tmp_path / "e.ndjson"
    kept = Kept(clock)
    lines = written(file, [BEGIN_MS + n for n in range(3 * CHUNK_ROWS + 7)])

    done = await replayed(file, kept, clock)

    assert kept.values == lines
    assert clock.sleeps == 0
    assert done.end == file.stat().st_size


async def test_shifted_events_have_the_time_they_are_sent(tmp_path: Path) -> None:
    """With a speed, an event's new time is the time at which it is due: none is of the future."""
    clock, file = Clock(), tmp_path / "e.ndjson"
    kept = Kept(clock)
    written(file, [BEGIN_MS, BEGIN_MS + 60_000, BEGIN_MS + 30_000])

    await replayed(file, kept, clock, speed=6.0, shift=True)

    times = [msgspec.json.decode(value)["time"] for value in kept.values]
    assert times == [1e12, 1e12 + 10_000, 1e12 + 5_000]


async def test_without_a_speed_the_newest_is_now(tmp_path: Path) -> None:
    """Distances stay; the file's newest event has the present."""
    clock, file = Clock(), tmp_path / "e.ndjson"
    kept = Kept(clock)
    written(file, [BEGIN_MS, BEGIN_MS + 60_000, BEGIN_MS + 30_000])

    await replayed(file, kept, clock, shift=True, newest_ms=BEGIN_MS + 60_000)

    times = [msgspec.json.decode(value)["time"] for value in kept.values]
    assert times == [1e12 - 60_000, 1e12, 1e12 - 30_000]


async def test_bad_lines_are_sent_and_named(tmp_path: Path) -> None:
    """Judging a line is the pipeline's business; it is counted and named by its number."""
    clock, file = Clock(), tmp_path / "e.ndjson"
    kept = Kept(clock)
    lines = [b'{"device_id":"a","time":1}', b"no json", b'{"time":2}', b'{"device_id":"b"}']
    file.write_bytes(b"\n".join(lines))

    done = await replayed(file, kept, clock)

    assert kept.values == lines
    assert done.named == [(2, "is no JSON object"), (3, "names no device"), (4, "has no time")]
    assert (done.sent, done.bad, done.left_out) == (4, 3, 0)


async def test_a_judge_leaves_out_what_would_be_refused(tmp_path: Path) -> None:
    """Rows that are no event never reach the judge; those it refuses are named with their code."""
    clock, file = Clock(), tmp_path / "e.ndjson"
    kept = Kept(clock)
    lines = [b'{"device_id":"a","time":%d}' % n for n in range(5)]
    file.write_bytes(b"\n".join([*lines[:2], b"no json", *lines[2:]]))

    def judge(records: list[Record]) -> dict[int, str]:
        return {p: "metric.range" for p, r in enumerate(records) if b'"time":3' in r.value}

    done = await replayed(file, kept, clock, judge=judge)

    assert kept.values == [*lines[:3], lines[4]]
    assert done.named == [(3, "is no JSON object"), (5, "would be refused: metric.range")]
    assert (done.sent, done.bad, done.left_out) == (4, 2, 2)


async def test_a_row_is_bad_once(tmp_path: Path) -> None:
    """A line without a time that the judge refuses too is counted once, by the judge's code."""
    clock, file = Clock(), tmp_path / "e.ndjson"
    kept = Kept(clock)
    file.write_bytes(b'{"device_id":"a"}\n{"device_id":"b"}\n')

    done = await replayed(file, kept, clock, judge=lambda records: {0: "time.missing"})

    assert done.named == [(1, "would be refused: time.missing")]
    assert (done.sent, done.bad, done.left_out) == (1, 1, 1)


async def test_stopped_and_resumed_nothing_is_lost(tmp_path: Path) -> None:
    """A replay that is stopped goes on after the last row that it sent."""
    clock, file = Clock(), tmp_path / "e.ndjson"
    kept = Kept(clock)
    lines = written(file, [BEGIN_MS + 10 * n for n in range(3000)])
    first = await replayed(
        file, kept, clock, speed=1.0, stop=lambda done: done.sent >= 700
    )  # fmt: skip
    assert 700 <= len(kept.values) == first.sent < 3000

    await replayed(file, kept, clock, begin=(first.end, first.number))

    assert kept.values == lines


async def test_a_replay_cut_off_goes_on_where_all_is_acknowledged(tmp_path: Path) -> None:
    """Cancelled with requests open: from the place on, every row comes at least once, in order."""
    clock, file = Clock(), tmp_path / "e.ndjson"
    kept = Kept(clock)
    lines = written(file, [BEGIN_MS] * 4000)
    rows = open_rows(file, SPEC)
    pace = Pace(speed=None, rate_per_s=None, shift=False, now=clock)
    replay = Replay(rows, pace, now=clock, sleep=clock.sleep)
    async with Producer(kept.bus, "t", validate=False, trace=False, linger_ms=0) as producer:
        run = asyncio.create_task(replay.run(producer, asyncio.Event()))
        while replay.done.sent < 1000:
            await asyncio.sleep(0)
        kept.bus.gate = asyncio.Event()
        for _ in range(50):
            await asyncio.sleep(0)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        kept.bus.gate.set()
    rows.close()
    place = (replay.done.end, replay.done.number)
    assert 1000 <= replay.done.number < 4000

    again = len(kept.values)
    await replayed(file, kept, clock, begin=place)

    assert kept.values[again:] == lines[replay.done.number :]
    assert kept.values[: replay.done.number] == lines[: replay.done.number]


async def test_reading_waits_for_the_bus(tmp_path: Path) -> None:
    """While nothing is acknowledged, a bounded part of the file is read."""
    clock, file = Clock(), tmp_path / "e.ndjson"
    kept = Kept(clock)
    written(file, [BEGIN_MS] * 40_000)
    rows, taken = open_rows(file, SPEC), 0
    read = rows.read

    def counted(begin: int = 0, number: int = 0) -> Iterator[Any]:
        nonlocal taken
        for row in read(begin, number):
            taken += 1
            yield row

    rows.read = counted  # type: ignore[method-assign]
    pace = Pace(speed=None, rate_per_s=None, shift=False, now=clock)
    replay = Replay(rows, pace, now=clock, sleep=clock.sleep)
    kept.bus.gate = asyncio.Event()
    async with Producer(kept.bus, "t", validate=False, trace=False, linger_ms=0) as producer:
        run = asyncio.create_task(replay.run(producer, asyncio.Event()))
        for _ in range(1000):
            await asyncio.sleep(0)
        assert 0 < taken < 12_000
        kept.bus.gate.set()
        done = await run
    rows.close()

    assert done.sent == taken == 40_000


def test_a_place_is_of_one_file_and_topic(tmp_path: Path) -> None:
    """It is found again when the file has grown, and refused for any other."""
    file, kept = tmp_path / "e.ndjson", tmp_path / "e.place"
    file.write_bytes(b"one\ntwo\n")
    place = load_place(kept, file, "t")
    assert (place.end, place.number) == (0, 0)
    save_place(kept, msgspec.structs.replace(place, end=4, number=1))
    file.write_bytes(b"one\ntwo\nthree\n")

    assert (load_place(kept, file, "t").end, load_place(kept, file, "t").number) == (4, 1)
    with pytest.raises(SettingsError, match="another file or topic"):
        load_place(kept, file, "u")
    file.write_bytes(b"uno\ndos\n")
    with pytest.raises(SettingsError, match="another file or topic"):
        load_place(kept, file, "t")
    kept.write_bytes(b"{")
    with pytest.raises(SettingsError, match="found none"):
        load_place(kept, file, "t")


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(st.integers(-5_000, 5_000), min_size=1, max_size=30),
    speed=st.floats(0.1, 1000.0),
)
def test_a_pace_never_goes_back(steps: list[int], speed: float) -> None:
    """Dues ascend, and shifted times keep the distances divided by the speed."""
    from headrace.streams.producers.file_facts import Row

    pace = Pace(speed=speed, rate_per_s=None, shift=True, now=lambda: 1000.0)
    dues = [pace.due(Row(n, n, b"", b"", BEGIN_MS + step)) for n, step in enumerate(steps)]

    assert [due.at_s for due in dues] == sorted(due.at_s for due in dues)
    for due, step in zip(dues, steps, strict=True):
        assert due.time_ms is not None
        assert due.time_ms == pytest.approx(1e6 + (step - steps[0]) / speed, abs=1e-3)
        assert due.time_ms <= due.at_s * 1000 + 1e-3


def test_the_clock_of_the_tests_is_in_the_past() -> None:
    """Shifted times are told from the file's own."""
    assert datetime.fromtimestamp(Clock()(), UTC).year == 2001 < 2026
