"""Lanes come and go with their partitions; a regained one keeps its arrays."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import gc
import logging
import weakref

import pytest
from fakes import delivery_world as world
from fakes.lane_life import until

import headrace.streams.delivery.lane
from headrace.feature_store.memory import MemoryStore
from headrace.schemas.errors import (
    DeadLetterShareError,
    OwnershipLostError,
    Source,
    StoreUnavailableError,
)
from headrace.schemas.timed import Timed
from headrace.streams.delivery.counters import Counters
from headrace.streams.delivery.lane import Lane
from headrace.streams.delivery.outlet import AcknowledgedOutlet
from headrace.streams.delivery.ports import StagePorts
from headrace.streams.delivery.runner import StageRunner
from headrace.streams.delivery.share import DeadLetterShare
from headrace.streams.observe.log_lines import LogKeeper
from headrace.streams.observe.traces import child_of, span_id

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TP = frozenset({(world.TOPIC, 0)})


class Handed:
    """A delivered batch that notes when it is done."""

    def __init__(self, values: list[bytes], start: int) -> None:
        self.records = world.records_of(values, start)
        self.finished = asyncio.Event()

    def done(self) -> None:
        self.finished.set()


class Scene:
    """A runner over the fake world."""

    def __init__(self, values: list[bytes], limit: float = 1.0) -> None:
        self.published: list[bytes] = []
        self.store = MemoryStore()
        self.counters = Counters()
        self.failures: list[BaseException] = []
        self.log = world.MemoryLog(values)
        self.group = world.MemoryGroup(0)
        self.stage = StagePorts(
            agent=world.FoldAgent(),
            partitions=1,
            ttl_s={},
            store=self.store,
            source=self.log,
            group=world.Member(self.group, 0),
            publisher=world.MemoryTopic(lambda name: None, self.published),
            counters=self.counters,
            share=DeadLetterShare(limit, least_events=2),
        )
        self.runner = StageRunner(
            lambda topic, partition: Lane(self.stage, topic, partition, fail=self.failures.append)
        )

    async def feed(self, start: int, stop: int) -> None:
        """Hand over these offsets and wait until they are done."""
        handed = Handed(self.log.values[start:stop], start)
        await self.runner.batch(handed)
        await asyncio.wait_for(handed.finished.wait(), 5)


async def test_a_regained_partition_keeps_its_arrays() -> None:
    """Revoked and assigned again with claim and R unchanged: no new claim, nothing replayed."""
    scene = Scene([b"a", b"b", b"c"])
    await scene.runner.assigned(TP)
    await scene.feed(0, 2)
    claim = await scene.store.held(f"fold/{world.TOPIC}/0")
    await scene.runner.revoked(TP)
    await scene.runner.assigned(TP)
    await scene.feed(2, 3)
    await scene.runner.revoked(TP)

    assert await scene.store.held(f"fold/{world.TOPIC}/0") == (claim[0], 3)
    assert scene.counters.replayed == 0
    assert scene.published == world.expected(scene.log.values)


async def test_a_partition_that_another_worker_had_is_taken_over_anew() -> None:
    """A claim raised meanwhile: the parked arrays are not trusted."""
    scene = Scene([b"a", b"b", b"c"])
    await scene.runner.assigned(TP)
    await scene.feed(0, 2)
    await scene.runner.revoked(TP)
    await scene.store.claim(f"fold/{world.TOPIC}/0")
    await scene.runner.assigned(TP)
    await scene.feed(2, 3)
    await scene.runner.revoked(TP)

    held = await scene.store.held(f"fold/{world.TOPIC}/0")
    assert held == (3, 3)
    assert scene.published == world.expected(scene.log.values)


async def test_a_partition_that_another_had_is_not_regained_though_the_store_forgot_it() -> None:
    """The other's claim and writes are rolled back; the group's offset tells of them."""
    scene = Scene([b"a", b"b", b"c", b"d"])
    await scene.runner.assigned(TP)
    await scene.feed(0, 2)
    await scene.runner.revoked(TP)
    scene.group.offset = 3  # the other published the third
    await scene.runner.assigned(TP)
    await scene.feed(3, 4)
    await scene.runner.revoked(TP)

    assert scene.counters.replayed == 1
    expected = world.expected(scene.log.values)
    assert scene.published == [*expected[:2], expected[3]]


async def test_a_group_that_goes_on_while_a_partition_is_regained_ends_nobody() -> None:
    """As in a takeover: what we owned is in doubt, and the partition is taken over anew."""
    scene = Scene([b"a", b"b", b"c"])
    refusals = [None, OwnershipLostError("the group goes on without us")]

    class Shut(AcknowledgedOutlet):
        async def fence(self) -> None:
            if refusals and (refusal := refusals.pop(0)) is not None:
                raise refusal

    scene.stage = dataclasses.replace(
        scene.stage, transactions=lambda topic, partition: Shut(scene.stage.publisher)
    )
    await scene.runner.assigned(TP)
    await scene.feed(0, 2)
    await scene.runner.revoked(TP)
    await scene.runner.assigned(TP)
    await scene.feed(2, 3)
    await scene.runner.revoked(TP)

    assert scene.failures == []
    assert refusals == []
    assert (await scene.store.held(f"fold/{world.TOPIC}/0"))[0] == 2
    assert scene.published == world.expected(scene.log.values)


async def test_state_of_partitions_that_others_have_is_not_held() -> None:
    """A worker holds what it works on, not everything it ever had; with none it is ready, too."""
    scene = Scene([b"a", b"b"])
    await scene.runner.assigned(TP)
    await scene.feed(0, 2)
    [lane] = scene.runner.lanes
    assert lane.owned is not None
    state = weakref.ref(lane.owned.state)
    del lane
    await scene.runner.revoked(TP)
    assert state() is not None
    await scene.runner.assigned(frozenset())
    await asyncio.sleep(0)  # the loop itself holds what woke us
    gc.collect()

    assert state() is None
    assert scene.runner.ready


async def test_a_revocation_at_its_deadline_leaves_nothing_going_on(monkeypatch) -> None:
    """A batch that hangs is cut off, and whoever cut it off returns when it is."""
    scene = Scene([b"a"])
    hangs, over = asyncio.Event(), asyncio.Event()

    async def hang(*_: object, **__: object) -> None:
        hangs.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)  # as a connection that is closed
            over.set()

    await scene.runner.assigned(TP)
    monkeypatch.setattr(scene.store, "write", hang)
    handed = Handed(scene.log.values, 0)
    await scene.runner.batch(handed)
    await hangs.wait()
    [lane] = scene.runner.lanes
    revoking = asyncio.create_task(scene.runner.revoked(TP))
    await until(lambda: lane._stopping)
    revoking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await revoking

    assert over.is_set()
    assert not handed.finished.is_set()


async def test_a_checkpoint_that_was_rolled_back_is_written_again_on_leaving() -> None:
    """No batch came since: without it, a group that is deleted too would publish again."""
    scene = Scene([b"a", b"b", b"c"])
    await scene.runner.assigned(TP)
    await scene.feed(0, 1)
    stale = copy.deepcopy(vars(scene.store))
    await scene.feed(1, 3)
    vars(scene.store).update(stale)
    await scene.runner.revoked(TP)

    assert (await scene.store.held(f"fold/{world.TOPIC}/0"))[1] == 3
    assert scene.published == world.expected(scene.log.values)


async def test_another_owner_is_left_alone() -> None:
    """A claim above ours is no rollback: whoever leaves does not raise his own again."""
    scene = Scene([b"a"])
    await scene.runner.assigned(TP)
    await scene.feed(0, 1)
    claim = await scene.store.claim(f"fold/{world.TOPIC}/0")
    await scene.runner.revoked(TP)

    assert await scene.store.held(f"fold/{world.TOPIC}/0") == (claim, 1)


async def test_a_store_that_is_away_holds_nobody_up(monkeypatch) -> None:
    """A lane that leaves gives it a moment."""
    scene = Scene([b"a"])
    await scene.runner.assigned(TP)
    await scene.feed(0, 1)
    asked = []

    async def away(key: str) -> tuple[int, int | None]:
        asked.append(key)
        raise StoreUnavailableError("away")

    monkeypatch.setattr(scene.store, "held", away)
    monkeypatch.setattr(headrace.streams.delivery.lane, "LEAVE_S", 0.05)
    await asyncio.wait_for(scene.runner.revoked(TP), 5)

    assert asked
    assert scene.failures == []


async def test_a_log_made_anew_meanwhile_is_read_from_its_start() -> None:
    """Claim and R are unchanged, the log is another one, and the bus forgot the group's offset."""
    scene = Scene([b"a", b"b"])
    await scene.runner.assigned(TP)
    await scene.feed(0, 2)
    await scene.runner.revoked(TP)
    scene.log.values[:] = [b"c", b"d", b"e"]
    scene.group.offset = None
    await scene.runner.assigned(TP)
    await scene.feed(0, 3)
    await scene.runner.revoked(TP)

    assert scene.published[2:] == world.expected([b"c", b"d", b"e"])
    assert scene.failures == []


async def test_too_many_dead_letters_end_the_worker() -> None:
    """Above the limit the lane fails the worker instead of diverting everything."""
    scene = Scene([b"!", b"!", b"!", b"!"], limit=0.5)
    await scene.runner.assigned(TP)
    await scene.runner.batch(Handed(scene.log.values, 0))
    async with asyncio.timeout(5):
        while not scene.failures:
            await asyncio.sleep(0)

    assert isinstance(scene.failures[0], DeadLetterShareError)


async def test_a_batch_for_a_partition_we_lost_is_dropped() -> None:
    """It is not acknowledged, so its next owner gets it."""
    scene = Scene([b"a"])
    handed = Handed([b"a"], 0)
    await scene.runner.batch(handed)

    assert not handed.finished.is_set()
    assert scene.published == []


async def test_expired_events_are_counted_and_flagged_rebuilt() -> None:
    """Retention passed the checkpoint: the gap is counted and the state says it is rebuilt."""
    scene = Scene([b"a", b"b", b"c", b"a"])
    await scene.runner.assigned(TP)
    await scene.feed(0, 1)
    await scene.runner.revoked(TP)
    scene.log.begin = 3
    await scene.store.claim(f"fold/{world.TOPIC}/0")
    lane = Lane(scene.stage, world.TOPIC, 0, fail=scene.failures.append)
    lane.start(None)
    async with asyncio.timeout(5):
        while not lane.ready:
            await asyncio.sleep(0)

    assert scene.counters.expired == 2
    assert lane.owned is not None
    assert lane.owned.rebuilt
    assert lane.owned.position == 3
    await lane.stop()


@pytest.mark.parametrize("folded", [0, 3])
async def test_retention_in_the_midst_of_a_takeover_is_taken_over_again(folded: int) -> None:
    """The log's start moves while the log is folded: retried and flagged, not fatal."""
    scene = Scene([b"a", b"b", b"c", b"d", b"a", b"b", b"c", b"d"])
    scene.group.offset = 8
    read = scene.log.read_range

    async def overtaken(topic: str, partition: int, start: int, stop: int):
        scene.log.begin = max(scene.log.begin, 0 if folded else 5)
        async for records in read(topic, partition, start, stop):
            yield records
            scene.log.begin = 5

    scene.log.read_range = overtaken  # type: ignore[method-assign]
    await scene.runner.assigned(TP)
    [lane] = scene.runner.lanes
    async with asyncio.timeout(5):
        while not lane.ready and not scene.failures:
            await asyncio.sleep(0.01)

    assert scene.failures == []
    assert scene.counters.retries == {"bus.unavailable": 1}
    assert lane.owned is not None
    assert (lane.owned.position, lane.owned.rebuilt) == (8, True)
    await scene.runner.revoked(TP)


@pytest.mark.parametrize("stray", [1, 5])
async def test_a_changed_partition_count_is_fatal(stray: int) -> None:
    """A checkpoint of another partition count stops the worker with the remedy."""
    scene = Scene([b"a"])
    await scene.runner.assigned(TP)
    await scene.feed(0, 1)
    await scene.runner.revoked(TP)
    changed = StagePorts(
        **{
            name: getattr(scene.stage, name)
            for name in StagePorts.__dataclass_fields__
            if name != "partitions"
        },
        partitions=1 + stray,
    )
    await scene.store.claim(f"fold/{world.TOPIC}/0")
    Lane(changed, world.TOPIC, 0, fail=scene.failures.append).start(None)
    async with asyncio.timeout(5):
        while not scene.failures:
            await asyncio.sleep(0)

    assert "partitions" in str(scene.failures[0])


async def test_only_a_gap_that_retention_made_is_asked_about() -> None:
    """Behind every transaction is a marker: a look at the log's start for each is a round trip."""
    scene = Scene([b"a"] * 9)
    asked = []
    ask = scene.log.log_range

    async def counted(topic: str, partition: int) -> tuple[int, int]:
        asked.append(scene.log.begin)
        return await ask(topic, partition)

    scene.log.log_range = counted  # type: ignore[method-assign]
    await scene.runner.assigned(TP)
    for start in (0, 2, 4):
        await scene.feed(start, start + 1)
    of_markers = len(asked)
    scene.log.begin = 7
    await scene.feed(7, 8)
    await scene.runner.revoked(TP)

    assert of_markers <= 2, "the takeover's, and that of the first gap"
    assert len(asked) == of_markers + 1
    assert scene.counters.expired == 2


class Traced(world.FoldAgent):
    """Of its batches the one that begins at offset 1 has a sampled event."""

    async def process(self, state, records, *, rebuilt):
        effects = await super().process(state, records, rebuilt=rebuilt)
        timed = Timed(world.TOPIC, 0, records.offsets, records.offsets, records.offsets)
        timed.traces.update({0: TRACE} if records.first == 1 else {})
        return dataclasses.replace(effects, timed=timed)


class Telling(world.MemoryTopic):
    """Says a line whenever it publishes, in a task of its own."""

    async def publish(self, outputs):
        async def tell() -> None:
            logging.getLogger("headrace.delivery").warning("publishing")

        await asyncio.create_task(tell())
        await super().publish(outputs)


async def test_a_log_line_carries_the_trace_of_its_batch() -> None:
    """What is said while a batch with a sampled event is in hand names its span; else nothing."""
    scene, keeper = Scene([b"a", b"b", b"c"]), LogKeeper()
    telling = Telling(lambda name: None, scene.published)
    scene.stage = dataclasses.replace(scene.stage, agent=Traced(), publisher=telling)
    logging.getLogger("headrace").addHandler(keeper)
    try:
        await scene.runner.assigned(TP)
        for start in range(3):
            await scene.feed(start, start + 1)
        await scene.runner.revoked(TP)
    finally:
        logging.getLogger("headrace").removeHandler(keeper)

    first, second, third = (line.traceparent for line in keeper.take())
    assert (first, third) == ("", "")
    source = Source(world.TOPIC, 0, 1)
    assert second == child_of(TRACE, span_id(world.FoldAgent.stage, TRACE, source))
