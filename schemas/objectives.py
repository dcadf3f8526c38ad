"""Service level objectives: what share of events must be good, over what time."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from headrace.schemas.input import Name


class Objective(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One objective.

    Attributes:
        kind: ``latency``: an event is good when it took at most `within_ms` on `hop`.
            ``freshness``: when its features were readable so long after its device time.
            ``success``: when it was predicted; dead and late ones are bad. ``canary``: when a
            probe was answered rightly and in time.
        target: Share of good events, such as 0.999: the rest is the error budget.
        within_ms: Longest time that is good, milliseconds; of ``latency`` and ``freshness``.
        hop: From when to when, of ``latency``; see `headrace_stream_latency_seconds`.
        window_h: The budget is of the last so many hours.
        least_events: No alert comes of fewer events than this in the longer of its two windows.
    """

    kind: Literal["latency", "freshness", "success", "canary"]
    target: Annotated[float, Meta(gt=0, lt=1)] = 0.999
    within_ms: Annotated[float, Meta(gt=0)] | None = None
    hop: Literal["ingest_to_prediction", "device_to_prediction", "device_to_ingest"] = (
        "device_to_prediction"
    )
    window_h: Annotated[float, Meta(gt=0)] = 720.0
    least_events: Annotated[int, Meta(ge=1)] = 100


class Objectives(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Objectives in two sets, each judged by itself.

    Attributes:
        site: What devices and services beside them need.
        core: What those upstream need.
    """

    site: dict[Name, Objective] = {}
    core: dict[Name, Objective] = {}

    def every(self) -> list[tuple[str, str, Objective]]:
        """Set, name and objective of each."""
        both = (("site", self.site), ("core", self.core))
        return [(which, name, one) for which, named in both for name, one in named.items()]


def with_canary(objectives: Objectives) -> Objectives:
    """The same, with an objective for probes where none has one: three lost in a row are told.

    Example:
        >>> with_canary(Objectives()).every()[0][:2]
        ('site', 'canary')
    """
    if any(one.kind == "canary" for _, _, one in objectives.every()):
        return objectives
    own = Objective(kind="canary", target=0.95, window_h=24.0, least_events=3)
    return Objectives(site={"canary": own} | objectives.site, core=objectives.core)
