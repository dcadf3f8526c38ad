"""What is watched of a pipeline while it runs."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from headrace.schemas.input import Name


class Drift(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whether input and predictions still look as they did, by feature and device class.

    Attributes:
        window_s: Windows that are compared, seconds of broker time.
        reference_windows: The first so many windows of a model are what later ones are held
            against; how much they differ among themselves says what is ordinary.
        sample_every: One in so many events is looked at, chosen by its offset.
        least_rows: A window of fewer events looked at is not judged.
        false_alarms_per_day: How many false alarms are accepted, of all features, classes and
            windows together.
        psi: An alarm also needs a population stability index of at least this.
    """

    window_s: Annotated[float, Meta(gt=0)] = 600.0
    reference_windows: Annotated[int, Meta(ge=4, le=1000)] = 12
    sample_every: Annotated[int, Meta(ge=1)] = 16
    least_rows: Annotated[int, Meta(ge=20)] = 200
    false_alarms_per_day: Annotated[float, Meta(gt=0)] = 0.1
    psi: Annotated[float, Meta(ge=0)] = 0.1


class Observe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is watched while the pipeline runs.

    Attributes:
        class_by: Attribute that is the device's class: latencies are told for each of its values,
            at most 32; None tells them of all devices together.
        slow_ms: An event that took longer from the broker to its prediction gets a span of its own
            where traces are exported, milliseconds.
        drift: How drift is looked for; None: it is not.
    """

    class_by: Name | None = None
    slow_ms: Annotated[float, Meta(gt=0)] = 1000.0
    drift: Drift | None = None
