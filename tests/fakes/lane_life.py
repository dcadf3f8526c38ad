"""A lane on the fake world, and crashes at named points of its life."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from fakes import delivery_world as world

from headrace.feature_store.memory import MemoryStore
from headrace.feature_store.snapshots import Snapshots
from headrace.schemas.batch import RecordBatch
from headrace.schemas.protocols import CheckpointMeta, Fields, WriteOutcome
from headrace.streams.delivery.counters import Counters
from headrace.streams.delivery.lane import Lane
from headrace.streams.delivery.ports import Outlet, StagePorts
from headrace.streams.delivery.share import DeadLetterShare


class CrashingStore(MemoryStore):
    """The memory store with a crash point on each side of a checkpoint write."""

    point: Any = staticmethod(lambda name: None)

    async def write(
        self,
        key: str,
        *,
        claim: int,
        base: int,
        meta: CheckpointMeta,
        changed: Fields,
        dropped: Iterable[bytes],
    ) -> WriteOutcome:
        self.point("before checkpoint")
        outcome = await super().write(
            key, claim=claim, base=base, meta=meta, changed=changed, dropped=dropped
        )
        self.point("after checkpoint")
        return outcome


@dataclass
class Handed:
    """A delivered batch that notes when it is done."""

    records: RecordBatch
    finished: bool = False

    def done(self) -> None:
        self.finished = True


class Bomb:
    """Crashes at the n-th crash point it passes."""

    def __init__(self, fuse: int | None) -> None:
        self.fuse = fuse
        self.exploded = False

    def __call__(self, name: str) -> None:
        if self.fuse is None:
            return
        if self.fuse == 0:
            self.exploded = True
            raise world.Crash(name)
        self.fuse -= 1


async def until(true: Callable[[], bool]) -> None:
    """Let the lanes run until something holds; it must hold within many turns of the loop."""
    for _ in range(100_000):
        if true():
            return
        await asyncio.sleep(0)
    raise AssertionError("nothing moves any more")


def make_lane(
    log: Any,
    member: Any,
    store: Any,
    topic: Any,
    failures: list[BaseException],
    transactions: Callable[[str, int], Outlet] | None = None,
    snapshots: Snapshots | None = None,
    agent: world.FoldAgent | None = None,
) -> Lane:
    """A lane on the fake world."""
    stage = StagePorts(
        agent=agent or world.FoldAgent(),
        partitions=1,
        ttl_s={},
        store=store,
        source=log,
        group=member,
        publisher=topic,
        counters=Counters(),
        share=DeadLetterShare(1.0, least_events=10),
        transactions=transactions,
        snapshots=snapshots,
    )
    return Lane(stage, world.TOPIC, 0, fail=failures.append)
