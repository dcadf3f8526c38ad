"""What was seen of a pipeline in one minute: small, derived, kept on a topic of its own."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0)]
Label = Annotated[str, Meta(max_length=128)]
Severity = Literal["page", "ticket"]

MOST_FINDINGS = 256
"""Drift indicators of one record: alarms first, then the largest."""

MOST_INCIDENTS = 50


class Percentiles(msgspec.Struct, frozen=True):
    """One hop of one device class.

    Attributes:
        hop: From when to when.
        device_class: Device class, `all` where there are none.
        count: Events.
        p50_ms: Half of them took no longer; no number where there are none.
        p95_ms: 95 %.
        p99_ms: 99 %.
        p999_ms: 99.9 %.
    """

    hop: Label
    device_class: Label
    count: Count
    p50_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float


class Finding(msgspec.Struct, frozen=True):
    """One indicator of one window of drift.

    Attributes:
        window: Number of the window.
        device_class: Device class.
        quantity: A feature, `score`, `confidence`, `rate` (share of high scores), or
            `missing.FEATURE`.
        value: The index: PSI of a distribution, change of a share.
        distance: KS distance, or change of a share.
        limit: What `distance` may be by chance, at the accepted rate of false alarms.
        alarm: It is drift.
    """

    window: int
    device_class: Label
    quantity: Label
    value: float
    distance: float
    limit: float
    alarm: bool


class Incident(msgspec.Struct, kw_only=True):
    """An objective's budget burned too fast, from an alert's begin to its end.

    Attributes:
        pipeline: Pipeline name.
        which: The objective's set.
        objective: The objective's name.
        severity: The most severe alert of it.
        start_ms: Wall clock, milliseconds since 1970.
        end_ms: The same, None while it goes on.
        cause: What was wrong when it began, by a code.
        burn: The fastest burn seen.
        bad: Bad events in it.
    """

    pipeline: str
    which: str
    objective: str
    severity: Severity
    start_ms: int
    end_ms: int | None = None
    cause: str
    burn: float
    bad: int = 0


class BudgetSpent(msgspec.Struct, frozen=True, kw_only=True):
    """One objective in the time that a record tells of.

    Attributes:
        which: The objective's set, `site` or `core`.
        name: The objective's name.
        good: Good events.
        bad: Bad events.
        left: Share of the error budget that was left at the end; below 0: overspent.
        burn: How fast it burned at the end; 1 spends it in exactly its window.
    """

    which: Label
    name: Label
    good: Count
    bad: Count
    left: float
    burn: float


class BudgetImage(msgspec.Struct, frozen=True, kw_only=True):
    """The whole window of one objective: how its budget was spent.

    Attributes:
        which: The objective's set.
        name: The objective's name.
        slot_s: Length of the window's slots.
        slots: Of the slots in use, how many slots ago each was, then their good events, then their
            bad ones, in base 128; base64 in JSON.
    """

    which: Label
    name: Label
    slot_s: float
    slots: bytes


class SketchTold(msgspec.Struct, frozen=True):
    """One window of one device class, or several together.

    Attributes:
        rows: Events looked at.
        high: Of those, scored at or above the threshold.
        bins: Bins of every quantity; base64 in JSON.
    """

    rows: Count
    high: Count
    bins: bytes


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """What drift of one model and device class is held against.

    Attributes:
        model: Digest of the model.
        device_class: Device class.
        windows: Those that it is learned from, while it is.
        pooled: All of them together, once it is learned.
        spread: How much more each quantity differs from window to window than chance makes it.
    """

    model: Label
    device_class: Label
    windows: tuple[SketchTold, ...] = ()
    pooled: SketchTold | None = None
    spread: tuple[float, ...] = ()


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed to go on after a restart.

    Attributes:
        budgets: Every objective.
        references: Drift's references, at most 2 MiB of them.
        judged: Number of the window of drift judged last, -1 for none.
    """

    budgets: tuple[BudgetImage, ...] = ()
    references: tuple[Reference, ...] = ()
    judged: int = -1


class ObservedRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """About one minute of one pipeline. No device, no key, no content; 1 to 30 KB.

    Attributes:
        pipeline: Pipeline name.
        pipeline_digest: Digest of the pipeline file.
        teller: Who counted: 16 hex digits, the same after a restart on the same machine.
        life: Which life of it: 16 hex digits.
        number: Number of the record in this life; a repeat has the same.
        at_ms: End of the time it tells of, wall clock, milliseconds since 1970.
        seconds: Length of that time.
        events: Events by `stage.outcome`.
        latencies: Percentiles by hop; by device class of the whole way alone.
        budgets: Objectives.
        incidents: Those that began, went on or ended.
        drift: Indicators of the windows judged in it; of many the largest.
        perceived: Of a consumer's record, counts of latencies by hop; base64 in JSON. Such a record
            holds nothing else but percentiles of them.
        image: In one record of many, what is needed to go on after a restart.
    """

    pipeline: Label
    pipeline_digest: Label
    teller: Label
    life: Label
    number: Count
    at_ms: int
    seconds: float
    events: dict[str, Count] = {}
    latencies: tuple[Percentiles, ...] = ()
    budgets: tuple[BudgetSpent, ...] = ()
    incidents: Annotated[tuple[Incident, ...], Meta(max_length=MOST_INCIDENTS)] = ()
    drift: Annotated[tuple[Finding, ...], Meta(max_length=MOST_FINDINGS)] = ()
    perceived: dict[str, bytes] = {}
    image: Image | None = None
