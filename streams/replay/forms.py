"""The table of each topic: its columns, their types, and the rows that a batch of records gives.

Every table begins with the coordinates of the record that a row is of: ``partition``, ``offset``,
``log_time`` (the broker's). Rows are in the order of the log. A record that cannot be read as its
topic's has a row all the same, with `code` saying why, where its table has that column; else it is
counted as unreadable. Times are milliseconds, UTC.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from headrace.schemas.batch import I64, RecordBatch
from headrace.streams.arrow import arrow
from headrace.streams.bus.raw_batch import RawBatch

RAW = ("key", "value", "headers")
"""Columns of the record as it was read, where they are asked for."""


@dataclass(slots=True)
class Columns:
    """What a form makes of a batch.

    Attributes:
        arrays: Arrow arrays of the form's own columns, each of one length.
        rows: int64 (M,), the record row behind each; None: one row for each record.
        unreadable: Record rows that gave no row.
        notes: What is to be said of the batch, such as columns that the table has not.
    """

    arrays: list[Any]
    rows: I64 | None = None
    unreadable: Sequence[int] = ()
    notes: tuple[str, ...] = ()


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be known of a table beside its schema; see `Form` for each."""

    role: str
    time: str | None = None
    device: str | None = None
    prediction: str | None = None
    labels: tuple[str, ...] = ()
    raw: bool = False


@dataclass(slots=True)
class Form:
    """How the records of one topic become a table.

    Attributes:
        role: What the topic carries.
        fields: Name and Arrow type of its own columns.
        rows: Makes them.
        time: Column that is the event time; None where rows have none.
        device: Column that is the entity, likewise.
        prediction: Column that is the prediction's id, likewise.
        labels: Columns of few values, kept as dictionaries in Parquet.
        raw: Add the record as it was read.
    """

    role: str
    fields: Sequence[tuple[str, Any]]
    rows: Callable[[RawBatch], Columns]
    time: str | None = None
    device: str | None = None
    prediction: str | None = None
    labels: tuple[str, ...] = ()
    raw: bool = False

    @property
    def facts(self) -> Facts:
        """What is to be known of the table beside its schema."""
        return Facts(
            role=self.role,
            time=self.time,
            device=self.device,
            prediction=self.prediction,
            labels=self.labels,
            raw=self.raw,
        )

    @property
    def schema(self) -> Any:
        """The table's `pyarrow.Schema`."""
        pa = arrow()
        fields = [*_place_fields(pa), *self.fields, *(_raw_fields(pa) if self.raw else ())]
        names = unique([name for name, _ in fields])
        return pa.schema(list(zip(names, (kind for _, kind in fields), strict=True)))

    def table(self, records: RawBatch) -> tuple[Any, Columns]:
        """The rows of a batch as a `pyarrow.RecordBatch`, and what is to be said of them."""
        pa = arrow()
        made = self.rows(records)
        chosen = slice(None) if made.rows is None else made.rows
        offsets, times = records.offsets[chosen], records.log_times_ms[chosen]
        place = [
            pa.array(np.full(len(offsets), records.partition, np.int32)),
            pa.array(offsets),
            stamps(times),
        ]
        raw = _raw_arrays(pa, records.records(), made.rows) if self.raw else []
        arrays = [*place, *made.arrays, *raw]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema), made


def unique(names: Sequence[str]) -> list[str]:
    """Names, with a number behind those that were there before: a metric may be called `code`.

    Example:
        >>> unique(["offset", "code", "code"])
        ['offset', 'code', 'code_2']
    """
    found: list[str] = []
    for name in names:
        tries = (name if n == 1 else f"{name}_{n}" for n in itertools.count(1))
        found.append(next(tried for tried in tries if tried not in found))
    return found


def stamps(times_ms: I64) -> Any:
    """Times as an Arrow array; int64 (N,), milliseconds since 1970."""
    pa = arrow()
    return pa.array(times_ms, pa.int64()).cast(stamp())


def stamp() -> Any:
    """The Arrow type of a time."""
    return arrow().timestamp("ms", "UTC")


def spread(array: Any, rows: I64, count: int) -> Any:
    """An Arrow array over `count` rows: its values at `rows`, null elsewhere."""
    if len(array) == count:
        return array
    places = np.full(count, -1, np.int64)
    places[rows] = np.arange(len(rows))
    pa = arrow()
    return array.take(pa.array(places, mask=places < 0))


def _place_fields(pa: Any) -> list[tuple[str, Any]]:
    return [("partition", pa.int32()), ("offset", pa.int64()), ("log_time", stamp())]


def _raw_fields(pa: Any) -> list[tuple[str, Any]]:
    header = pa.struct([("name", pa.string()), ("value", pa.binary())])
    return list(zip(RAW, (pa.binary(), pa.binary(), pa.list_(header)), strict=True))


def _raw_arrays(pa: Any, records: RecordBatch, rows: I64 | None) -> list[Any]:
    types = [kind for _, kind in _raw_fields(pa)]
    headers: list[Any] = [None] * len(records)
    for row, found in enumerate(records.headers or ()):
        if found:
            headers[row] = [{"name": name, "value": value} for name, value in found]
    arrays = [
        pa.array(column, kind)
        for column, kind in zip((records.keys, records.values, headers), types, strict=True)
    ]
    return arrays if rows is None else [array.take(pa.array(rows)) for array in arrays]
