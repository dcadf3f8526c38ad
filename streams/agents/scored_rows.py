"""What comes to the open windows of a partition: rows, those with a prediction, and rests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import F64, I64
from headrace.schemas.block import Labels
from headrace.streams.agents.windows import Windows


@dataclass(slots=True)
class ScoredRows:
    """M rows of one partition, in log order, and N predictions of them, as a summary sees them.

    Attributes:
        event_times_ms: int64 (M,), milliseconds since 1970.
        log_times_ms: int64 (M,), broker times of the events.
        served: int64 (N,), ascending: the rows that have a prediction. The model refused the
            others; that they came is known all the same.
        entities: Entity of each prediction.
        groups: Group of each prediction.
        score: float32 (N,).
        high: bool (N,), labelled anomalous.
        metrics: float64 (N, S); NaN is missing.
        model: Digest of the model that answered.
    """

    event_times_ms: I64
    log_times_ms: I64
    served: I64
    entities: Labels
    groups: Labels
    score: NDArray[np.float32]
    high: NDArray[np.bool_]
    metrics: F64
    model: str


@dataclass(frozen=True, slots=True)
class Rest:
    """A record that says: nothing else has come until now (a `FeatureBlock` of no rows).

    Attributes:
        place: Rows before it.
        log_ms: Broker time of it, milliseconds since 1970.
    """

    place: int
    log_ms: int


@dataclass(frozen=True, slots=True)
class Change:
    """What comes to the open windows of one partition, see `Summarizer.fold`."""

    windows: Windows
    rows: ScoredRows | None
    partition: int
    rests: Sequence[Rest] = ()
