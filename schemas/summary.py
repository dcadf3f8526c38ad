"""The summary: one typed record per window and group. Raw content has no field to stand in."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from headrace.schemas.input import Name

Count = Annotated[int, Meta(ge=0)]
Label = Annotated[str, Meta(max_length=64)]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{8,32}$")]
MAX_TOP = 100


class Moments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Count, mean, sum of squared deviations and extremes of one quantity; mergeable.

    Attributes:
        count: Values seen.
        mean: Their mean; 0 for none.
        m2: Sum of squared deviations from the mean.
        min: Smallest; None for none.
        max: Largest; None for none.
    """

    count: Count
    mean: float
    m2: Annotated[float, Meta(ge=0)]
    min: float | None
    max: float | None


class TopDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the most anomalous devices of a window.

    Attributes:
        device_id: Entity, at most 64 characters.
        score: Its highest score.
        rows: Its predictions labelled anomalous.
    """

    device_id: Label
    score: float
    rows: Count


class SummaryRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One partition's part of one window and group; parts of several partitions merge.

    Attributes:
        pipeline: Pipeline name.
        pipeline_digest: Digest of the pipeline file.
        window_start_ms: Start of the tumbling window, milliseconds since 1970.
        window_end_ms: Its end, exclusive.
        group: Values of the grouping attributes, joined by ``/``; ``all`` without any.
        partition: Source partition this part comes from.
        rows: Predictions in it.
        anomalies: Predictions labelled anomalous.
        devices: Distinct entities.
        suppressed: Fewer entities than `min_group`: everything but `rows` and `devices` is empty.
        score: Moments of the score.
        metrics: Moments of the chosen metrics.
        top: The most anomalous devices, highest score first.
        models: Model digest to predictions by it.
    """

    pipeline: Label
    pipeline_digest: Digest
    window_start_ms: int
    window_end_ms: int
    group: Annotated[str, Meta(max_length=260)]
    partition: Count
    rows: Count
    anomalies: Count
    devices: Count
    suppressed: bool
    score: Moments
    metrics: dict[Name, Moments]
    top: Annotated[tuple[TopDevice, ...], Meta(max_length=MAX_TOP)]
    models: dict[Digest, Count]
