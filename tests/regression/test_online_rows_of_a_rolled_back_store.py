"""After a failover to a stale replica every online row is the state's again, as the checkpoint is.

Seen with `headrace drill --faults store-stale`: devices without a later event kept the rows of the
replica until the partition was taken over again.
"""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import numpy as np
from fakes import delivery_world as world
from fakes.lane_life import CrashingStore, Handed, make_lane, until

from headrace.schemas.batch import RecordBatch
from headrace.schemas.protocols import Effects, OnlineRows


class Rows(world.Fold):
    """The fold, and of each value the offset at which it came last: its online row."""

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[bytes, int] = {}

    def online(self) -> list[OnlineRows]:
        return [online_rows(self.last)]


class RowsAgent(world.FoldAgent):
    """The folding agent, which writes online rows too."""

    def new_state(self, topic: str, partition: int) -> Rows:
        return Rows()

    async def process(self, state: Any, records: RecordBatch, *, rebuilt: bool) -> Effects:
        effects = await super().process(state, records, rebuilt=rebuilt)
        fresh = dict(zip(map(bytes, records.values), records.offsets.tolist(), strict=True))  # type: ignore[arg-type]
        state.last |= fresh
        effects.online.append(online_rows(fresh))
        return effects


def online_rows(last: dict[bytes, int]) -> OnlineRows:
    at = np.array(list(last.values()), np.int64)
    names = [value.decode() for value in last]
    return OnlineRows("v", names, at, at, at.astype(np.float64).reshape(-1, 1))


async def test_rows_without_a_later_event_are_written_again() -> None:
    """`a` came between the replica's last write and its promotion, and never again."""
    store, values = CrashingStore(), [b"a", b"a", b"b"]
    log = world.MemoryLog(values)
    topic = world.MemoryTopic(lambda name: None)
    failures: list[BaseException] = []
    member = world.Member(world.MemoryGroup(0), 0)
    lane = make_lane(log, member, store, topic, failures, agent=RowsAgent())
    lane._stage.ttl_s["v"] = 3600.0  # type: ignore[index]
    lane.start(None)
    replica: dict[str, Any] = {}
    for offset, value in enumerate(values):
        handed = Handed(world.records_of([value], offset))
        lane.offer(handed)
        await until(lambda handed=handed: handed.finished)
        if offset == 0:
            replica = copy.deepcopy(store.__dict__)
        if offset == 1:
            store.__dict__.update(replica)
    await asyncio.wait_for(lane.stop(), 5)

    found = await store.read_rows("v", ["a", "b"], width=1, ttl_s=3600.0, now_ms=2)

    assert failures == []
    assert lane._stage.counters.rewrites == 1
    assert found.values.tolist() == [[1.0], [2.0]]
