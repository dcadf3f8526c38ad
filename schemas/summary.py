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
MAX_FREQUENT = 1000


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


class Quantiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts of one quantity's values by bin; mergeable without loss (`upstream/quantiles.py`).

    Attributes:
        level: How often bins were joined; a quantile is off by at most 2**(level - 7) of its value.
        count: Values seen.
        bins: Steps from bin to bin, then the count of each, in base 128; base64 in JSON.
    """

    level: Annotated[int, Meta(ge=0, le=9)]
    count: Count
    bins: Annotated[bytes, Meta(max_length=8192)]


class Distinct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """HyperLogLog of the entities, standard error 2.3 %; mergeable without loss.

    Attributes:
        registers: 2048 of one byte, or the steps between those in use and their values, in base
            128; base64 in JSON.
    """

    registers: Annotated[bytes, Meta(max_length=2048)]


class DeviceCount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A counter of one device.

    Attributes:
        device_id: Entity, at most 64 characters.
        count: Its count is at least this, and at most the sketch's `error` more.
    """

    device_id: Label
    count: Annotated[int, Meta(ge=1)]


class Frequent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Anomalous predictions by device; mergeable within its error.

    Attributes:
        counters: Devices it names at most.
        total: Anomalous predictions in all.
        error: A count is short by at most this, which is at most total / (counters + 1).
        devices: Highest count first, of equal ones by name.
    """

    counters: Annotated[int, Meta(ge=1, le=MAX_FREQUENT)]
    total: Count
    error: Count
    devices: Annotated[tuple[DeviceCount, ...], Meta(max_length=MAX_FREQUENT)]


class SummaryRecord(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """One window and group of one site; those of several sites merge.

    Attributes:
        pipeline: Pipeline name.
        pipeline_digest: Digest of the pipeline file.
        window_start_ms: Start of the tumbling window, milliseconds since 1970.
        window_end_ms: Its end, exclusive.
        group: Values of the grouping attributes, joined by ``/``; ``all`` without any.
        rows: Predictions in it.
        anomalies: Predictions labelled anomalous.
        devices: Distinct entities.
        suppressed: Fewer entities than `min_group`: everything but `rows` and `devices` is empty.
        score: Moments of the score.
        metrics: Moments of the chosen metrics.
        top: The most anomalous devices, highest score first.
        models: Model digest to predictions by it.
        rev: 0, and absent, is the first answer. A higher one replaces those below: events came
            after the window was released.
        score_quantiles: Quantiles of the score; absent where not asked for.
        quantiles: Quantiles of the chosen metrics; absent where not asked for.
        distinct: Sketch of the entities; absent where not asked for, or where they are personal.
        frequent: Devices by anomalous predictions; absent as `distinct` is.
    """

    pipeline: Label
    pipeline_digest: Digest
    window_start_ms: int
    window_end_ms: int
    group: Annotated[str, Meta(max_length=260)]
    rows: Count
    anomalies: Count
    devices: Count
    suppressed: bool
    score: Moments
    metrics: dict[Name, Moments]
    top: Annotated[tuple[TopDevice, ...], Meta(max_length=MAX_TOP)]
    models: dict[Digest, Count]
    rev: Count = 0
    score_quantiles: Quantiles | None = None
    quantiles: dict[Name, Quantiles] = {}
    distinct: Distinct | None = None
    frequent: Frequent | None = None
