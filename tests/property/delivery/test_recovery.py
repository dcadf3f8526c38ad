"""A lost store is rebuilt from snapshots and log to the bit, or its predictions say it is not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fakes import delivery_world as world
from fakes.lane_life import CrashingStore, Handed, make_lane, until
from fakes.snapshot_places import MemoryPlace
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.feature_store.memory import MemoryStore
from headrace.feature_store.snapshots import Snapshots
from headrace.feature_store.snapshotting import SnapshottingStore
from headrace.schemas.errors import TopicError
from headrace.schemas.protocols import Effects
from headrace.schemas.settings import SnapshotSettings

KEY = f"fold/{world.TOPIC}/0"


class FlaggingAgent(world.FoldAgent):
    """The fold, and whether it says of itself that its history is truncated."""

    def __init__(self) -> None:
        self.rebuilt: dict[int, bool] = {}

    async def process(self, state: Any, records: Any, *, rebuilt: bool) -> Effects:
        self.rebuilt |= dict.fromkeys(records.offsets.tolist(), rebuilt)
        return await super().process(state, records, rebuilt=rebuilt)


class Site:
    """A log, a group, a store and its snapshots, which outlive the workers on them."""

    def __init__(self, values: list[bytes]) -> None:
        self.log, self.group = world.MemoryLog(values), world.MemoryGroup(0)
        self.published: list[bytes] = []
        self.place, self.now = MemoryPlace(), 0.0
        bounds = SnapshotSettings(keep=100, every_s=1e-6)
        self.kept = Snapshots(self.place, "p", bounds, self._later)
        self.store = MemoryStore()
        self.agent = FlaggingAgent()

    def _later(self) -> float:
        self.now += 1.0
        return self.now

    async def live(self, stop: int, *, size: int = 2, snapshots: bool = True) -> Any:
        """One worker, from the group's offset to `stop`; it commits at its end. Its stage."""
        store = SnapshottingStore(self.store, self.kept, every_s=1e-9)
        failures: list[BaseException] = []
        lane = make_lane(
            self.log, world.Member(self.group, self.group.generation), store,
            world.MemoryTopic(lambda name: None, self.published), failures,
            snapshots=self.kept if snapshots else None, agent=self.agent,
        )  # fmt: skip
        lane.start(None)
        await until(lambda: lane.ready or bool(failures))
        if failures:
            raise failures[0]
        at = max(self.group.offset or 0, self.log.begin)
        while at < stop:
            to = min(at + size, stop)
            handed = Handed(world.records_of(self.log.values[at:to], at))
            lane.offer(handed)
            await until(lambda handed=handed: handed.finished or bool(failures))
            assert not failures
            await asyncio.gather(*store._jobs)
            at = to
        await lane.stop()
        self.group.offset = max(at, self.group.offset or 0)
        await store.close()
        return lane._stage


logs = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=4, max_size=24)


@given(values=logs, data=st.data(), size=st.integers(1, 5))
@settings(max_examples=150, deadline=None)
def test_an_emptied_store_is_rebuilt_to_the_bit(values, data, size) -> None:
    """However far the log is truncated, as long as a usable snapshot lies at or above its start.

    Where none does, every prediction after the loss is flagged; one before never is.
    """

    async def run() -> None:
        site = Site(values)
        half = data.draw(st.integers(1, len(values) - 1))
        await site.live(half, size=size)
        assert not any(site.agent.rebuilt.values())
        site.store = MemoryStore()
        site.log.begin = data.draw(st.integers(0, half))
        for name in data.draw(st.sets(st.sampled_from(sorted(site.place.kept)))):
            site.place.kept[name] = site.place.kept[name][:-3]
        reaches = [
            one.position
            for one in site.kept.stored(KEY)
            if one.position >= site.log.begin and _whole(site, one)
        ]
        await site.live(len(values), size=size)
        flags = [site.agent.rebuilt[offset] for offset in range(half, len(values))]
        if reaches or site.log.begin == 0:
            assert site.published == world.expected(values)
            assert not any(flags)
        else:
            assert all(flags)

    asyncio.run(run())


def _whole(site: Site, one: Any) -> bool:
    try:
        site.kept.read(one)
    except ValueError:
        return False
    return True


@given(values=logs, data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_flag_outlives_the_worker_that_set_it(values, data) -> None:
    """A state of a truncated history stays one after a restart."""

    async def run() -> None:
        site = Site(values)
        half = data.draw(st.integers(2, len(values) - 2))
        await site.live(half, snapshots=False)
        site.store, site.log.begin = MemoryStore(), half - 1
        await site.live(half + 1, snapshots=False)
        await site.live(len(values), snapshots=False)
        assert all(site.agent.rebuilt[offset] for offset in range(half, len(values)))

    asyncio.run(run())


def test_a_nearer_snapshot_shortens_the_way(caplog: pytest.LogCaptureFixture) -> None:
    """A store rolled back far is not folded from there when a snapshot lies between."""

    async def run() -> None:
        site = Site([b"a"] * 40)
        await site.live(4)
        old = site.store.__dict__.copy(), await site.store.read(KEY)
        await site.live(36)
        assert old[1] is not None
        site.store = MemoryStore()
        await site.store.claim(KEY)
        await site.store.rewrite(KEY, claim=1, meta=old[1].meta, fields=old[1].fields)
        stage = await site.live(40)
        assert stage.counters.replayed < 4
        assert site.published == world.expected(site.log.values)

    asyncio.run(run())


def test_a_snapshot_beyond_the_groups_offset_is_not_used() -> None:
    """Where the store is lost and the offset set back by hand, the records are done again."""

    async def run() -> None:
        values = [b"a", b"b", b"c", b"a", b"b", b"c"]
        site = Site(values)
        await site.live(6)
        site.store, site.group.offset = MemoryStore(), 2
        await site.live(6)
        expected = world.expected(values)
        assert site.published == expected + expected[2:]

    asyncio.run(run())


def test_a_snapshot_of_another_log_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    """Store and log lost together: the old log's snapshots leave no trace in the new state."""

    async def run() -> None:
        site = Site([b"a"] * 10)
        await site.live(10)
        site.store, site.log.values, site.group.offset = MemoryStore(), [b"b"] * 10, 0
        old = dict(site.place.kept)
        site.published.clear()
        await site.live(6)
        assert site.published == world.expected([b"b"] * 6)
        site.store, site.place.kept = MemoryStore(), old
        await site.live(10)
        assert site.published == world.expected([b"b"] * 10)
        found = await site.store.read(KEY)
        assert found is not None
        assert found.meta.epoch == 1

    asyncio.run(run())
    assert "another log" in caplog.text


def test_offsets_set_by_hand_say_so(caplog: pytest.LogCaptureFixture) -> None:
    """Back: what was done is not done again. Forward: it is folded and not published."""

    async def run() -> None:
        values = [b"a", b"b", b"c"] * 4
        site = Site(values)
        await site.live(6)
        site.group.offset = 2
        await site.live(8)
        assert site.published == world.expected(values)[:8]
        site.group.offset = 10
        await site.live(12)
        assert site.published == world.expected(values)[:8] + world.expected(values)[10:]

    asyncio.run(run())
    assert "lies 4 behind its state" in caplog.text
    assert "lies 2 ahead of its state" in caplog.text


def test_another_partition_count_ends_it() -> None:
    """Also where only a snapshot remembers the old one."""

    async def run() -> None:
        site = Site([b"a"] * 6)
        await site.live(4)
        site.store = MemoryStore()
        for one in site.kept.stored(KEY):
            read = site.kept.read(one)
            site.place.delete(one.name)
            changed = type(read.meta)(
                **{
                    **{n: getattr(read.meta, n) for n in read.meta.__struct_fields__},
                    "partitions": 2,
                }
            )
            site.kept.save(KEY, changed, read.fields)
        await site.live(6)

    with pytest.raises(TopicError, match="restore that count"):
        asyncio.run(run())


def test_the_checks_catch_a_snapshot_that_lags(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks above can fail: a snapshot without its last changes is found out."""
    monkeypatch.setattr(
        "headrace.feature_store.snapshotting.merged", lambda base, changed, dropped: base
    )

    async def run() -> None:
        site = Site([b"a", b"b"] * 5)
        await site.live(7)
        site.store = CrashingStore()
        await site.live(10)
        assert site.published == world.expected(site.log.values)

    with pytest.raises(AssertionError):
        asyncio.run(run())
