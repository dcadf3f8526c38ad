"""With transactions, a reader of committed records sees the fault-free run: nothing twice."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from typing import Any

import pytest
from fakes import delivery_world as world
from fakes.lane_life import Bomb, CrashingStore, Handed, make_lane, until
from fakes.transactions import MemoryBus, MemoryOutlet, NeverFenced, OffsetsOutside
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.streams.delivery import retry


@pytest.fixture(autouse=True, scope="module")
def no_pauses() -> Iterator[None]:
    """A step that is repeated is repeated at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retry, "FIRST_PAUSE_S", 0.0)
        yield


def lane_on(log: Any, bus: MemoryBus, store: Any, outlet: Any, failures: list[Any]) -> Any:
    """A lane of a new member of the group that publishes through `outlet` only."""
    bus.group.generation += 1
    member = world.Member(bus.group, bus.group.generation)
    return make_lane(log, member, store, None, failures, lambda topic, partition: outlet)


async def one_life(
    log: Any,
    bus: MemoryBus,
    store: Any,
    sizes: list[int],
    fuse: int | None,
    kind: type[MemoryOutlet] = MemoryOutlet,
) -> None:
    """Run a worker from the group's offset until the log's end or its crash."""
    bomb, failures = Bomb(fuse), []
    store.point = bomb
    lane = lane_on(log, bus, store, kind(bus, bomb), failures)
    lane.start(None)
    at, turn = bus.group.offset or 0, 0
    while at < len(log.values) and not bomb.exploded:
        stop = min(at + sizes[turn % len(sizes)], len(log.values))
        handed = Handed(world.records_of(log.values[at:stop], at))
        lane.offer(handed)
        await until(lambda handed=handed: handed.finished or bomb.exploded or bool(failures))
        at, turn = stop, turn + 1
    assert not failures
    if bomb.exploded:
        with pytest.raises(world.Crash):
            await lane._task
    else:
        await lane.stop()


sizes = st.lists(st.integers(1, 6), min_size=1, max_size=4)
fates = st.sampled_from(["keep", "keep", "empty", "roll back"])
lives = st.lists(st.tuples(st.integers(0, 12), sizes, fates), max_size=5)
logs = st.lists(st.sampled_from([b"a", b"b", b"c", b"!"]), min_size=1, max_size=25)
troubles = st.lists(
    st.sampled_from(["none", "aborted", "unknown, committed", "unknown, aborted"]), max_size=6
)


async def survive(
    values: list[bytes], plan: Any, befalls: Any, kind: type[MemoryOutlet] = MemoryOutlet
) -> MemoryBus:
    """Every life of `plan`, and one to the end; what the bus then holds."""
    log, bus, store = world.MemoryLog(values), MemoryBus(world.MemoryGroup(0)), CrashingStore()
    bus.troubles = list(befalls)
    past = []
    for fuse, cuts, fate in plan:
        past.append(copy.deepcopy(store))
        await one_life(log, bus, store, cuts, fuse, kind)
        if fate != "keep":
            store = CrashingStore() if fate == "empty" else past[0]
    await one_life(log, bus, store, [3], None, kind)
    return bus


@given(values=logs, plan=lives, befalls=troubles)
@settings(max_examples=300, deadline=None)
def test_any_crashes_leave_the_fault_free_log(values, plan, befalls) -> None:
    """Crashes at any step, aborted and undecided transactions, lost stores: equal, not a superset.

    The fold that each output carries shows that the state skipped nothing and took nothing twice.
    """
    bus = asyncio.run(survive(values, plan, befalls))

    assert bus.visible == world.expected(values)
    assert bus.group.offset == len(values)


@given(values=logs, first=st.integers(1, 25), cuts=sizes)
@settings(max_examples=100, deadline=None)
def test_a_zombie_publishes_nothing(values, first, cuts) -> None:
    """The old owner, given the whole log after its successor is done, adds nothing."""

    async def run() -> None:
        log, bus, store = world.MemoryLog(values), MemoryBus(world.MemoryGroup(0)), CrashingStore()
        old = lane_on(log, bus, store, MemoryOutlet(bus), [])
        old.start(None)
        handed = Handed(world.records_of(values[:first], 0))
        old.offer(handed)
        await until(lambda: handed.finished)
        await one_life(log, bus, store, cuts, None)
        old.offer(Handed(world.records_of(values, 0)))
        for _ in range(200):
            await asyncio.sleep(0)
        stopping = asyncio.create_task(old.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        assert bus.visible == world.expected(values)
        assert bus.group.offset == len(values)

    asyncio.run(run())


async def two_owners(values: list[bytes], kind: type[MemoryOutlet]) -> MemoryBus:
    """A successor takes over after the first batch; the first owner goes on with the second."""
    log, bus, store = world.MemoryLog(values), MemoryBus(world.MemoryGroup(0)), CrashingStore()
    old = lane_on(log, bus, store, kind(bus), [])
    old.start(None)
    begun = Handed(world.records_of(values[:1], 0))
    old.offer(begun)
    await until(lambda: begun.finished)
    await one_life(log, bus, store, [2], None, kind)
    old.offer(Handed(world.records_of(values[1:], 1)))
    for _ in range(200):
        await asyncio.sleep(0)
    stopping = asyncio.create_task(old.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    return bus


def test_outlets_that_break_the_contract_double_or_lose() -> None:
    """The checks above can fail: offsets outside the transaction lose, an unfenced zombie doubles.

    So fencing is what keeps a zombie out here, and no other rule that happens to.
    """
    values = [b"a", b"b", b"c", b"a"]
    lost = asyncio.run(survive(values, [(1, [1], "keep")], [], OffsetsOutside))
    doubled = asyncio.run(two_owners(values, NeverFenced))
    kept = asyncio.run(two_owners(values, MemoryOutlet))

    assert lost.visible != world.expected(values)
    assert len(doubled.visible) > len(values)
    assert kept.visible == world.expected(values)
