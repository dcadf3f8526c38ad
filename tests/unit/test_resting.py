"""When it is said of a partition that it rests."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from fakes import enrich_world, serve_world
from fakes.serve_world import Run, block

from headrace.schemas.block import FeatureBlock
from headrace.schemas.errors import BusUnavailableError
from headrace.schemas.protocols import Output
from headrace.schemas.topics import topics_of
from headrace.streams import resting
from headrace.streams.agents.enrich import EnrichAgent
from headrace.streams.resting import Resting, say_rests
from headrace.streams.workers.jobs import PartitionStatus

PIPELINE = serve_world.pipeline(summary={"idle_s": 30.0}, input={"max_skew_s": 20.0})
AT = PartitionStatus(partition=2, position=9)


def said(*looks: tuple[float, PartitionStatus]) -> list[float]:
    """Times of the looks at which it was due."""
    watch = Resting(PIPELINE)
    return [now_s for now_s, part in looks if watch.due([part], now_s)]


def test_twice_in_each_rest() -> None:
    """After `idle_s`, and once more for clocks that are ahead; then not until it moved again."""
    seconds = [float(second) for second in range(200)]
    moved = PartitionStatus(partition=2, position=10, given=1)
    looks = [(now_s, AT if now_s < 100 else moved) for now_s in seconds]

    assert said(*looks) == [31.0, 51.0, 131.0, 151.0]


def test_what_is_not_at_its_end_does_not_rest() -> None:
    """Lag, open batches, a step in hand, a takeover: nothing is said meanwhile."""
    for change in ({"lag": 1}, {"in_flight": 1}, {"step": "publish"}, {"taken_over": False}):
        part = msgspec.structs.replace(AT, **change)
        assert said(*((float(second), part) for second in range(99))) == []
    assert said((0.0, AT), (30.0, msgspec.structs.replace(AT, given=1)), (31.0, AT)) == []


def test_what_gives_no_rows_rests() -> None:
    """Dead letters all the time, and a look in the middle of each: every summary waits for it."""
    looks = [msgspec.structs.replace(AT, position=n, lag=n % 2) for n in range(60)]

    assert said(*((float(n), part) for n, part in enumerate(looks))) == [32.0, 52.0]


def test_of_a_partition_that_was_never_used_it_is_said_once() -> None:
    """Seconds after another one began, whatever `idle_s` says: before, all may begin at once."""
    watch, unused = Resting(PIPELINE), PartitionStatus(partition=0)
    other = PartitionStatus(partition=1)
    begun = msgspec.structs.replace(other, position=1, given=1)
    looks = [(float(n), [unused, other if n < 20 else begun]) for n in range(50)]

    assert [now_s for now_s, parts in looks if 0 in watch.due(parts, now_s)] == [25.0]
    assert said(*((float(second), unused) for second in range(99))) == [31.0]


def test_what_the_bus_did_not_take_is_due_again() -> None:
    """Every summary waits for what a partition says: it is said until it is heard, twice a rest."""
    watch = Resting(PIPELINE)
    looks = [second for second in range(60) if watch.due([AT], float(second))]
    watch.unsaid([AT.partition])

    assert looks == [31, 51]
    assert (watch.due([AT], 60.0), watch.due([AT], 61.0)) == ([AT.partition], [])


async def test_a_bus_that_is_away_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure is one line, and the next rest is said all the same."""
    monkeypatch.setattr(resting, "LOOK_S", 0.0)
    tries: list[list[Output]] = []

    class Away:
        async def publish(self, outputs: list[Output]) -> None:
            tries.append(outputs)
            raise BusUnavailableError("away")

    class Always(Resting):
        def due(self, partitions: object, now_s: float) -> list[int]:
            return [1]

    task = asyncio.create_task(
        say_rests(Always(PIPELINE), list, lambda p: Output("t", p, None, [b""]), Away(), ended)
    )
    while len(tries) < 3:
        await asyncio.sleep(0)
    task.cancel()

    assert [outputs[0].partition for outputs in tries[:3]] == [1, 1, 1]


async def ended(partition: int) -> bool:
    """The log has nothing more."""
    return True


async def test_who_was_paused_looks_before_he_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came meanwhile is not in his lag yet: nothing is said of that partition, and later is.

    A worker that was stopped, or cut off from the bus, for longer than `idle_s` closed windows of
    which the rows lay in the log already.
    """
    monkeypatch.setattr(resting, "LOOK_S", 0.0)
    said: list[list[int]] = []
    unread = {1}

    class Topic:
        async def publish(self, outputs: list[Output]) -> None:
            said.append([output.partition for output in outputs])

    class Late(Resting):
        def due(self, partitions: object, now_s: float) -> list[int]:
            return super().due(partitions, now_s + 1000.0 * len(said))

    async def at_end(partition: int) -> bool:
        return partition not in unread

    parts = [PartitionStatus(partition=p, position=9) for p in (0, 1)]
    watch = Late(PIPELINE)
    watch.due(parts, 0.0)
    monkeypatch.setattr(resting.time, "monotonic", lambda: 100.0)
    task = asyncio.create_task(
        say_rests(watch, lambda: parts, lambda p: Output("t", p, None, [b""]), Topic(), at_end)
    )
    while not said:
        await asyncio.sleep(0)
    first, said[:] = said[0], []
    unread.clear()
    while not any(1 in partitions for partitions in said):
        await asyncio.sleep(0)
    task.cancel()

    assert first == [0]


def test_what_enrich_says_is_a_block_of_no_rows() -> None:
    """It is read like every block, and goes to the features partition of the same number."""
    spec = enrich_world.pipeline()
    output = EnrichAgent(spec, topics_of(spec), numerics="n").resting(3)
    found = FeatureBlock.decode(output.values[0])

    assert (output.topic, output.partition) == (topics_of(spec).features.name, 3)
    assert (len(found), found.columns) == (0, tuple(c.name for c in spec.columns()))
    assert found.event_ids == []


async def test_serve_takes_it_as_a_rest() -> None:
    """A block of no rows is no row: nothing is predicted, counted or dead."""
    run = Run()
    await run.batch(block(3))
    effects = await run.batch(block(0), offset=1)

    assert (effects.outputs, set(effects.counts.values())) == ([], {0})
