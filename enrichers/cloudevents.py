"""CloudEvents 1.0 on Kafka: structured mode (one JSON object) and binary mode (``ce_`` headers)."""

from __future__ import annotations

from typing import Any

import msgspec

from headrace.enrichers.paths import Shape
from headrace.schemas.batch import Headers, RecordBatch

ENVELOPE = frozenset({"id", "time", "source", "subject", "type"})
"""Context attributes that `[input]` may name as the paths of entity, id and time."""

VERSION = "specversion"
_PREFIX = "ce_"


def place(path: str) -> str:
    """Where a path of `[input]` lies in a structured event: in its envelope or in its data.

    Example:
        >>> place("subject"), place("metrics.load")
        ('subject', 'data.metrics.load')
    """
    return path if path in ENVELOPE else f"data.{path}"


class CloudEventsReader:
    """Reads both modes into one struct type.

    A record is in binary mode when it has a ``ce_specversion`` header; its value is then the data.

    Source: CloudEvents 1.0.2, JSON format 3 and Kafka protocol binding 3.

    Args:
        shape: Struct type of a structured event.
    """

    def __init__(self, shape: Shape) -> None:
        self._structured = msgspec.json.Decoder(shape.type)
        self._data = msgspec.json.Decoder(shape.node("data"))
        self._make = shape.type
        self._data_field = shape.attribute("data")
        self._fields = {
            _PREFIX + name: shape.attribute(name) for name in (*ENVELOPE, VERSION) if name in shape
        }

    def all(self, records: RecordBatch) -> list[Any]:
        """Every record of a batch as a struct; any error is the whole batch's."""
        if records.headers is None:
            decode = self._structured.decode
            return [decode(value) for value in records.values]  # type: ignore[arg-type] # None raises
        return [
            self.one(value, headers)
            for value, headers in zip(records.values, records.headers, strict=True)
        ]

    def one(self, value: bytes | None, headers: Headers) -> Any:
        """One record as a struct.

        A header without a value counts as absent.

        Raises:
            TypeError: no value.
            msgspec.DecodeError, RecursionError, UnicodeDecodeError: not such an event.
        """
        found: dict[str, Any] = {
            self._fields[name]: text.decode()
            for name, text in headers
            if name in self._fields and text is not None
        }
        if self._fields[_PREFIX + VERSION] not in found:
            return self._structured.decode(value)  # type: ignore[arg-type] # None raises
        found[self._data_field] = self._data.decode(value)  # type: ignore[arg-type] # None raises
        return self._make(**found)
