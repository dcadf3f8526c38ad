"""The ``[input]`` part of a pipeline file: how a producer's payload becomes an event.

Existing devices need not change: every field has a path into their payload, dots between the
names of nested objects.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Span = Annotated[float, Meta(gt=0, le=1e10)]
"""Seconds, up to three centuries: a span that is added to any time an event may have."""
Path = Annotated[str, Meta(min_length=1, max_length=200)]
OptionalPath = Annotated[str, Meta(max_length=200)] | None
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


DAY_S = 86_400.0


class Metric(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One number of the telemetry contract.

    Attributes:
        path: Where it is in the payload; default ``metrics.<name>``.
        unit: For people; never interpreted.
        min: Smallest value that is possible at all; below it the event is dead (`metric.range`).
        max: Largest.
        required: Without it the event is dead (`metric.missing`); else a missing value is NaN.
    """

    path: Path | None = None
    unit: str = ""
    min: float | None = None
    max: float | None = None
    required: bool = True


class Attribute(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One short label of few values, by which summaries can be grouped.

    Attributes:
        path: Where it is in the payload; default the attribute's own name.
        values: The values that exist; anything else counts as `default`. Empty: any text, cut
            to 64 characters.
        default: Taken where it is missing.
    """

    path: Path | None = None
    values: tuple[str, ...] = ()
    default: str = "other"


class Devices(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A device registry joined to each event by its entity.

    Attributes:
        file: CSV file beside the pipeline file, first line the column names.
        key: Its column that holds the entity.
        columns: Columns that become attributes.
    """

    file: str
    key: str = "device_id"
    columns: tuple[Name, ...]


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a record becomes an event.

    Attributes:
        format: ``json`` is one JSON object per record; ``cloudevents`` is a CloudEvents 1.0 event,
            structured or Kafka binary mode, whose data is that object. Kafka's binary mode is
            recognised by its headers, structured mode by its ``specversion``.
        entity: Path of the entity (device) key: text or an integer.
        id: Path of the event id; ``""`` where the input has none: the id is then
            ``topic/partition/offset`` and no repeat can be recognised.
        time: Path of the device's time.
        time_unit: ``iso`` is RFC 3339 text, the others are numbers since 1970.
        sequence: Where a producer writes its counter per device; the pipeline does not read it.
        metrics: Name to metric, in the order of the columns.
        attributes: Name to label.
        raw: Top-level fields that hold raw content: never decoded, never leave the record.
        personal: Top-level fields that hold personal data: likewise.
        entity_personal: The entity key itself is personal data: it is in no summary.
        key: ``entity``: the record key must be the entity, else the event is dead
            (`key.missing`, `key.mismatch`); ``any``: not looked at.
        rekey: Devices key their records otherwise, or not at all: a stage of its own, ``intake``,
            writes each to the partition of its entity before it is enriched. Order is kept for the
            records of a device that came in on one partition.
        max_skew_s: Event time later than broker time by more than this is dead (`time.future`).
            More than a day (86400) says that event times have nothing to do with the broker's, as
            in a log of another year that is read in: no device's clock is then held to be ahead.
        allowed_lateness_s: An event older than the partition's newest (none counted as later than
            its broker time), or than its own device's newest, by more than this goes to the late
            topic; repeats are recognised over exactly this span.
        max_event_bytes: A larger record is dead (`record.size`).
    """

    format: Literal["json", "cloudevents"] = "json"
    entity: Path = "device_id"
    id: OptionalPath = "id"
    time: Path = "time"
    time_unit: Literal["iso", "s", "ms", "us", "ns"] = "iso"
    sequence: Path | None = None
    metrics: Annotated[dict[Name, Metric], Meta(min_length=1, max_length=256)]
    attributes: dict[Name, Attribute] = {}
    raw: tuple[str, ...] = ()
    personal: tuple[str, ...] = ()
    entity_personal: bool = False
    key: Literal["entity", "any"] = "any"
    rekey: bool = False
    max_skew_s: Span = 60.0
    allowed_lateness_s: Span = 30.0
    max_event_bytes: Annotated[int, Meta(gt=0, le=1 << 20)] = 1 << 20

    def __post_init__(self) -> None:
        """TOML has no null: an empty path says that there is none."""
        if self.id == "":
            msgspec.structs.force_setattr(self, "id", None)

    @property
    def follows_broker(self) -> bool:
        """Event times are of the broker's present, so that what is later than it is ahead."""
        return self.max_skew_s <= DAY_S

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Metric names in column order."""
        return tuple(self.metrics)

    def metric_path(self, name: str) -> str:
        """Path of one metric in the payload."""
        return self.metrics[name].path or f"metrics.{name}"

    def attribute_path(self, name: str) -> str:
        """Path of one attribute in the payload."""
        return self.attributes[name].path or name
