"""One stage's delivery: a lane per assigned partition, fed by the transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headrace.streams.delivery.lane import Lane
from headrace.streams.delivery.ownership import Owned
from headrace.streams.delivery.ports import Delivered


class StageRunner:
    """Implements the transport's handler: batches in, durable effects out.

    Args:
        new_lane: Makes the lane of a (topic, partition).
    """

    def __init__(self, new_lane: Callable[[str, int], Lane]) -> None:
        self._new_lane = new_lane
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._parked: dict[tuple[str, int], Owned] = {}
        self._assigned = False

    @property
    def lanes(self) -> list[Lane]:
        """Lanes of the partitions that are ours now."""
        return list(self._lanes.values())

    @property
    def ready(self) -> bool:
        """Partitions were assigned, and every one of them is taken over."""
        return self._assigned and all(lane.ready for lane in self._lanes.values())

    async def assigned(self, partitions: frozenset[tuple[str, int]]) -> None:
        """Start a lane for each partition that has none; takeovers run side by side.

        What was kept of partitions that others have now is let go of: each of them claims his own.
        """
        self._assigned = True
        for tp in partitions - self._lanes.keys():
            lane = self._lanes[tp] = self._new_lane(*tp)
            lane.start(self._parked.pop(tp, None))
        self._parked.clear()

    async def revoked(self, partitions: frozenset[tuple[str, int]]) -> None:
        """Finish the batch in hand of each lane and end it.

        What a lane owned for certain is kept: if the partition comes back with claim and R
        unchanged, its arrays are still right. Cancelled by the transport at its deadline, which
        drops the batches in hand unacknowledged.
        """
        lanes = [(tp, self._lanes.pop(tp)) for tp in partitions & self._lanes.keys()]
        owned = await asyncio.gather(*(lane.stop() for _, lane in lanes))
        for (tp, _), kept in zip(lanes, owned, strict=True):
            if kept is not None:
                self._parked[tp] = kept

    async def batch(self, delivered: Delivered) -> None:
        """Hand a batch to its partition's lane."""
        lane = self._lanes.get((delivered.records.topic, delivered.records.partition))
        if lane is not None:
            lane.offer(delivered)
