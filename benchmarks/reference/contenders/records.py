"""Events as they are read and predictions as they are written, in every side but Headrace's.

The library that reads is Headrace's own. A batch is written by filling a template, as Headrace does
(`template`), a single prediction from a struct. Structs outside the garbage collector's sight: they
hold no cycles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec


class Metrics(msgspec.Struct, gc=False):
    """The metrics of an event, each in its range."""

    temperature_c: Annotated[float, msgspec.Meta(ge=-100.0, le=500.0)]
    vibration_g: Annotated[float, msgspec.Meta(ge=0.0, le=100.0)]
    pressure_bar: Annotated[float, msgspec.Meta(ge=0.0, le=1000.0)]
    current_a: Annotated[float, msgspec.Meta(ge=0.0, le=1000.0)]


class Event(msgspec.Struct, gc=False):
    """What the job needs of an event; the payload is skipped."""

    id: str
    device_id: str
    time: str
    metrics: Metrics


class Model(msgspec.Struct, gc=False):
    """Which model predicted."""

    name: str
    version: int
    digest: str


class Times(msgspec.Struct, gc=False):
    """Milliseconds since 1970."""

    device: int
    ingest: int
    served: int


class Prediction(msgspec.Struct, gc=False):
    """A prediction as Headrace documents it, its fields in that order."""

    id: str
    rev: int
    event_id: str
    device_id: str
    event_time: str
    score: msgspec.Raw
    label: str
    confidence: msgspec.Raw
    tier: str
    flags: list[str]
    feature_age_ms: int
    model: Model
    source: str
    times_ms: Times


DECODE = msgspec.json.Decoder(Event).decode
ENCODE = msgspec.json.Encoder().encode


def read(values: Sequence[bytes]) -> list[Event | None]:
    """Each event, or None where it is not valid."""
    try:
        return [DECODE(value) for value in values]
    except msgspec.ValidationError:
        return [read_one(value) for value in values]


def read_one(value: bytes) -> Event | None:
    """The event, or None where it is not valid."""
    try:
        return DECODE(value)
    except msgspec.ValidationError:
        return None
