"""What is watched of a pipeline while it runs."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from headrace.schemas.input import Name


class Observe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is watched while the pipeline runs.

    Attributes:
        class_by: Attribute that is the device's class: latencies are told for each of its values,
            at most 32; None tells them of all devices together.
        slow_ms: An event that took longer from the broker to its prediction gets a span of its own
            where traces are exported, milliseconds.
    """

    class_by: Name | None = None
    slow_ms: Annotated[float, Meta(gt=0)] = 1000.0
