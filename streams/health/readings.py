"""What a worker's status line says of its partitions, read from its lanes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from headrace.streams.workers.jobs import PartitionStatus

TAKEOVER = "takeover"


class LaneReadings(Protocol):
    """What one lane tells of itself; reading it costs nothing and changes nothing."""

    @property
    def partition(self) -> int:
        """Source partition."""

    @property
    def ready(self) -> bool:
        """It was taken over once."""

    @property
    def step(self) -> tuple[str, float] | None:
        """What is in hand and since when, monotonic seconds; None between two batches.

        ``takeover``, ``process``, ``publish``, ``online rows`` or ``checkpoint``. A step that is
        repeated keeps its beginning.
        """

    @property
    def position(self) -> int:
        """Next offset to process; 0 before the first takeover is done."""

    @property
    def given(self) -> int:
        """Rows that it has published since it began."""


def partition_statuses(
    lanes: Iterable[LaneReadings],
    *,
    lag: Mapping[int, int],
    in_flight: Mapping[int, int],
    now_s: float,
) -> tuple[PartitionStatus, ...]:
    """Every lane as the status line tells it, by partition number.

    Args:
        lanes: The stage's lanes.
        lag: Records behind, by partition.
        in_flight: Batches taken and not finished, by partition.
        now_s: Monotonic seconds.

    Delivery: pure.
    """
    return tuple(
        PartitionStatus(
            partition=lane.partition,
            position=lane.position,
            lag=lag.get(lane.partition, 0),
            in_flight=in_flight.get(lane.partition, 0),
            given=lane.given,
            taken_over=lane.ready and (lane.step is None or lane.step[0] != TAKEOVER),
            step=None if lane.step is None else lane.step[0],
            step_s=0.0 if lane.step is None else round(max(0.0, now_s - lane.step[1]), 3),
        )
        for lane in sorted(lanes, key=lambda lane: lane.partition)
    )
