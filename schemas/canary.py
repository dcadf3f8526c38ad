"""Probe events of a pipeline: whose they are, how often they come, what is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from headrace.schemas.input import Name

RESERVED = "headrace-canary-"
"""Ids of devices that begin so are of probes, in every pipeline; no device may be called so."""


class Canary(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Probe events that `headrace up` sends, and whose predictions it looks for.

    Attributes:
        interval_s: Time between two probes, seconds; the partitions take turns. A prediction that
            has not come by then is missing.
        within_ms: A prediction that came later than this after its probe was sent is slow,
            milliseconds.
        metrics: What a probe reports.
        least: Lowest score that is right.
        most: Highest score that is right.
    """

    metrics: Annotated[dict[Name, float], Meta(min_length=1)]
    interval_s: Annotated[float, Meta(ge=0.1)] = 10.0
    within_ms: Annotated[float, Meta(gt=0)] = 1000.0
    least: float = 0.0
    most: float = 1.0


def probe_device(number: int) -> str:
    """The device of the probes of one partition."""
    return f"{RESERVED}{number}"


def probes_of(entities: Sequence[str]) -> list[int]:
    """Which of these are devices of probes.

    Example:
        >>> probes_of(["press-07", "headrace-canary-2"])
        [1]

    Cost: 15 ns for each name where there are none.
    """
    if RESERVED not in "\0".join(entities):
        return []
    return [place for place, name in enumerate(entities) if name.startswith(RESERVED)]
