"""Whatever crashes, nothing is lost, and what is repeated is repeated to the letter."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from fakes import delivery_world as world
from fakes.lane_life import Bomb, CrashingStore, Handed, make_lane, until
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.protocols import WriteOutcome


async def one_life(
    log: Any, group: Any, store: Any, published: list[bytes], sizes: list[int], fuse: int | None
) -> bool:
    """Run a worker from the group's offset until the log's end or its crash; whether it crashed."""
    bomb = Bomb(fuse)
    topic = world.MemoryTopic(bomb, published)
    store.point = bomb
    group.generation += 1
    failures: list[BaseException] = []
    lane = make_lane(log, world.Member(group, group.generation), store, topic, failures)
    lane.start(None)
    at, turn = group.offset, 0
    while at < len(log.values) and not bomb.exploded:
        stop = min(at + sizes[turn % len(sizes)], len(log.values))
        handed = Handed(world.records_of(log.values[at:stop], at))
        lane.offer(handed)
        await until(lambda handed=handed: handed.finished or bomb.exploded or bool(failures))
        if handed.finished and turn % 2:  # the group's offset is committed now and then
            group.offset = stop
        at, turn = stop, turn + 1
    assert not failures
    if not bomb.exploded:
        await lane.stop()
        group.offset = at
    elif lane._task is not None:
        with pytest.raises(world.Crash):
            await lane._task
    return bomb.exploded


def check(published: list[bytes], values: list[bytes]) -> None:
    """Nothing lost, nothing out of order at first sight, every repeat equal to the letter."""
    first: dict[int, bytes] = {}
    for value in published:
        offset = int(value.split()[0])
        assert first.setdefault(offset, value) == value
    assert list(first.values()) == world.expected(values)


lives = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.lists(st.integers(1, 6), min_size=1, max_size=4),
        st.sampled_from(["keep", "keep", "empty", "roll back"]),
    ),
    max_size=5,
)
logs = st.lists(st.sampled_from([b"a", b"b", b"c", b"!"]), min_size=1, max_size=25)


@given(values=logs, plan=lives)
@settings(max_examples=200, deadline=None)
def test_any_crashes_and_store_losses_lose_and_change_nothing(values, plan) -> None:
    """Crashes at any step, a store emptied or rolled back: the ledger is the fault-free one."""

    async def run() -> None:
        log, group = world.MemoryLog(values), world.MemoryGroup(0)
        store, published = CrashingStore(), []
        past: list[CrashingStore] = []
        for fuse, sizes, fate in plan:
            past.append(copy.deepcopy(store))
            await one_life(log, group, store, published, sizes, fuse)
            if fate == "empty":
                store = CrashingStore()
            elif fate == "roll back":
                store = past[0]
        await one_life(log, group, store, published, [3], None)
        check(published, values)

    asyncio.run(run())


@given(values=logs, sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3), at=st.integers(0, 6))
@settings(max_examples=100, deadline=None)
def test_a_roll_back_under_a_running_worker_is_written_whole(values, sizes, at) -> None:
    """A store that loses writes while we run gets the whole partition, and the next life agrees."""

    async def run() -> None:
        log, group, published = world.MemoryLog(values), world.MemoryGroup(0), []
        store = CrashingStore()
        lane = make_lane(
            log, world.Member(group, 0), store, world.MemoryTopic(lambda name: None, published), []
        )
        lane.start(None)
        offset, turn, old = 0, 0, None
        while offset < len(values):
            stop = min(offset + sizes[turn % len(sizes)], len(values))
            handed = Handed(world.records_of(values[offset:stop], offset))
            lane.offer(handed)
            await until(lambda handed=handed: handed.finished)
            if turn == 0:
                old = copy.deepcopy(store.__dict__)
            if turn == at and old is not None:
                store.__dict__.update(copy.deepcopy(old))
            offset, turn = stop, turn + 1
        await lane.stop()
        group.offset = 0
        group.generation = 0
        await one_life(log, group, store, published, [2], None)
        check(published, values)

    asyncio.run(run())


@given(
    values=logs,
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    struck=st.sets(st.integers(0, 12), max_size=3),
    commits=st.sets(st.integers(0, 12)),
    fate=st.sampled_from(["emptied", "claimed"]),
)
@settings(max_examples=200, deadline=None)
def test_a_store_lost_under_a_running_worker(values, sizes, struck, commits, fate) -> None:
    """Emptied, or claimed by somebody: the worker takes over again, whatever the group's offset.

    The group's offset lags behind what was published; the state must not skip what lies between.
    """

    async def run() -> None:
        log, group, published = world.MemoryLog(values), world.MemoryGroup(0), []
        store = CrashingStore()
        topic = world.MemoryTopic(lambda name: None, published)
        lane = make_lane(log, world.Member(group, 0), store, topic, [])
        lane.start(None)
        offset, turn = 0, 0
        while offset < len(values):
            stop = min(offset + sizes[turn % len(sizes)], len(values))
            handed = Handed(world.records_of(values[offset:stop], offset))
            if turn in struck and fate == "emptied":
                store.__dict__.update(CrashingStore().__dict__)
            elif turn in struck:
                await store.claim(f"fold/{world.TOPIC}/0")
            lane.offer(handed)
            await until(lambda handed=handed: handed.finished)
            if turn in commits:
                group.offset = stop
            offset, turn = stop, turn + 1
        await lane.stop()
        await one_life(log, group, store, published, [2], None)
        check(published, values)

    asyncio.run(run())


@given(values=logs)
@settings(max_examples=50, deadline=None)
def test_a_zombie_cannot_write_over_its_successor(values) -> None:
    """The old owner, still busy after the take-over, is refused and changes no state."""

    async def run() -> None:
        log, group, published = world.MemoryLog(values), world.MemoryGroup(0), []
        store = CrashingStore()
        topic = world.MemoryTopic(lambda name: None, published)
        old = make_lane(log, world.Member(group, 0), store, topic, [])
        old.start(None)
        first = Handed(world.records_of(values[:1], 0))
        old.offer(first)
        await until(lambda: first.finished)
        await one_life(log, group, store, published, [2], None)
        late = Handed(world.records_of(values, 0))
        old.offer(late)
        for _ in range(200):
            await asyncio.sleep(0)
        held = await store.held(f"fold/{world.TOPIC}/0")
        assert held[1] == len(values)
        stopping = asyncio.create_task(old.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        check(published, values)

    asyncio.run(run())


class AcksTooEarly(CrashingStore):
    """Known bad: says WRITTEN without writing when the state was not what it expected."""

    async def write(self, key: str, **kw: Any) -> WriteOutcome:  # type: ignore[override]
        kw["changed"] = list(kw["changed"])[:1]
        return await super().write(key, **kw)


def test_the_ledger_catches_a_store_that_keeps_half_a_delta() -> None:
    """The checks above can fail: a store that drops half of each delta is found out."""

    async def run() -> None:
        values = [b"a", b"b", b"c", b"a"]
        log, group, published = world.MemoryLog(values), world.MemoryGroup(0), []
        store = AcksTooEarly()
        await one_life(log, group, store, published, [1], 9)
        await one_life(log, group, store, published, [1], None)
        check(published, values)

    with pytest.raises(AssertionError):
        asyncio.run(run())
