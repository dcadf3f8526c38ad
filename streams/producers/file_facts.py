"""What a replay must know of an event: its device, its time, and whether it is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from headrace.enrichers.cloudevents import ENVELOPE, place
from headrace.enrichers.paths import text_of
from headrace.schemas.input import Input

PER_MS = {"s": 1e-3, "ms": 1.0, "us": 1e3, "ns": 1e6}
"""A millisecond in each unit of numeric times."""

NO_OBJECT, NO_DEVICE, NO_TIME = "is no JSON object", "names no device", "has no time"


@dataclass(slots=True)
class Row:
    """One row of a file.

    Attributes:
        number: Of the line, or of the row in a Parquet file; from 1.
        end: Where the next row begins: bytes, or rows in a Parquet file.
        value: The event; empty where the row cannot be made one.
        key: Its device; None where it names none.
        at_ms: Its time, milliseconds since 1970; None where it has none that can be read.
        fault: What is wrong with it, in words that quote nothing; empty where nothing is.
    """

    number: int
    end: int
    value: bytes
    key: bytes | None = None
    at_ms: float | None = None
    fault: str = ""


class Facts:
    """Finds the device and the time in an event, and writes another time into it.

    Args:
        spec: The pipeline's input.
        time_path: Where the time is.
    """

    def __init__(self, spec: Input, time_path: str) -> None:
        wrapped = spec.format == "cloudevents"
        at = place if wrapped else str
        self._entity, self._time = at(spec.entity).split("."), at(time_path).split(".")
        self._unit = "iso" if wrapped and time_path in ENVELOPE else spec.time_unit
        self._decode = msgspec.json.Decoder().decode
        self._encode = msgspec.json.Encoder().encode

    def row(self, number: int, end: int, value: bytes) -> Row:
        """An event's bytes as a row."""
        try:
            event = self._decode(value)
        except (msgspec.DecodeError, RecursionError):
            return Row(number, end, value, fault=NO_OBJECT)
        if not isinstance(event, dict):
            return Row(number, end, value, fault=NO_OBJECT)
        key = text_of(_at(event, self._entity)).encode() or None
        at_ms = self._ms(_at(event, self._time))
        fault = NO_DEVICE if key is None else NO_TIME if at_ms is None else ""
        return Row(number, end, value, key, at_ms, fault)

    def moved(self, row: Row, at_ms: float) -> bytes:
        """The row's event at another time."""
        event = self._decode(row.value)
        *above, last = self._time
        _at(event, above)[last] = self._written(at_ms)
        return self._encode(event)

    def _ms(self, at: Any) -> float | None:
        if isinstance(at, int | float) and not isinstance(at, bool) and self._unit != "iso":
            return at / PER_MS[self._unit]
        if isinstance(at, str) and self._unit == "iso":
            try:
                when = datetime.fromisoformat(at)
            except ValueError:
                return None
            return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000
        return None

    def _written(self, at_ms: float) -> str | float | int:
        if self._unit == "iso":
            text = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
            return text.replace("+00:00", "Z")
        return at_ms / 1000 if self._unit == "s" else round(at_ms * PER_MS[self._unit])


def _at(event: Any, path: Sequence[str]) -> Any:
    """What lies at a path; None where nothing does."""
    for name in path:
        if not isinstance(event, dict):
            return None
        event = event.get(name)
    return event
