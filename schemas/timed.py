"""When what a batch brought happened, and whose traces it carries: what watching it needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import F64, I64
from headrace.schemas.block import Labels
from headrace.schemas.errors import Source

T = TypeVar("T", bound=np.generic)


@dataclass(slots=True)
class Timed:
    """The N events of a batch that came through.

    Attributes:
        topic: Source topic.
        partition: Source partition.
        offsets: int64 (N,), source offsets.
        event_times_ms: int64 (N,), device time, milliseconds since 1970.
        log_times_ms: int64 (N,), broker time of the telemetry records.
        classes: Device class of each, None where the pipeline has no classes.
        ready_ms: int64 (N,), broker time of the features; None before there are any.
        begun_ms: When inference began, wall clock, milliseconds since 1970; None where there is
            none.
        features: float64 (N, F), what the model read; None before there is a model.
        score: float32 (N,), what it said.
        confidence: float32 (N,).
        high: bool (N,), score at or above the threshold.
        traces: W3C traceparent, as the batch got it, of the rows whose trace goes on.
    """

    topic: str
    partition: int
    offsets: I64
    event_times_ms: I64
    log_times_ms: I64
    classes: Labels | None = None
    ready_ms: I64 | None = None
    begun_ms: float | None = None
    features: F64 | None = None
    score: NDArray[np.float32] | None = None
    confidence: NDArray[np.float32] | None = None
    high: NDArray[np.bool_] | None = None
    traces: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offsets)

    def take(self, keep: NDArray[np.bool_]) -> Timed:
        """The rows where `keep` (bool (N,)) is true."""
        rows = np.flatnonzero(keep).tolist()
        place = {row: number for number, row in enumerate(rows)}
        known = self.classes
        return Timed(
            self.topic,
            self.partition,
            self.offsets[keep],
            self.event_times_ms[keep],
            self.log_times_ms[keep],
            None if known is None else Labels(known.names, known.codes[keep]),
            _kept(self.ready_ms, keep),
            self.begun_ms,
            _kept(self.features, keep),
            _kept(self.score, keep),
            _kept(self.confidence, keep),
            _kept(self.high, keep),
            {place[row]: text for row, text in self.traces.items() if row in place},
        )

    def source(self, row: int) -> Source:
        """Coordinates of one row."""
        return Source(self.topic, self.partition, int(self.offsets[row]))


def _kept(column: NDArray[T] | None, keep: NDArray[np.bool_]) -> NDArray[T] | None:
    return None if column is None else column[keep]
