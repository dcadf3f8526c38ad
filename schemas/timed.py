"""When what a batch brought happened: the columns that latencies are counted from."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.schemas.batch import I64
from headrace.schemas.block import Labels


@dataclass(slots=True)
class Timed:
    """The N events of a batch that came through.

    Attributes:
        event_times_ms: int64 (N,), device time, milliseconds since 1970.
        log_times_ms: int64 (N,), broker time of the telemetry records.
        classes: Device class of each, None where the pipeline has no classes.
        ready_ms: int64 (N,), broker time of the features; None before there are any.
        begun_ms: When inference began, wall clock, milliseconds since 1970; None where there is
            none.
    """

    event_times_ms: I64
    log_times_ms: I64
    classes: Labels | None = None
    ready_ms: I64 | None = None
    begun_ms: float | None = None

    def __len__(self) -> int:
        return len(self.event_times_ms)
