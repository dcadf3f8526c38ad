"""Records as they came: one buffer of bytes, and where in it each key and value is.

An object for each record costs more than reading it. Who can work on columns of bytes takes them
from here, and `records` makes the objects for who cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from aiokafka.record.util import (  # type: ignore[import-untyped]
    decode_varint_py,
    encode_varint,
)
from numpy.typing import NDArray

from headrace.schemas.batch import I64, Headers, RecordBatch
from headrace.schemas.errors import Source


class Places(NamedTuple):
    """Where a field of each record is in the buffer.

    Attributes:
        start: int64 (N,), its first byte.
        size: int64 (N,), its bytes; below 0 where the record has none. Of headers, how many.
    """

    start: I64
    size: I64

    def at(self, rows: slice | NDArray[np.bool_] | I64) -> Places:
        """Those of some rows."""
        return Places(self.start[rows], self.size[rows])


@dataclass(slots=True)
class RawBatch:
    """Consecutive records of one partition; see `RecordBatch`, of which this is the bytes.

    Attributes:
        topic: Topic name.
        partition: Partition number.
        offsets: int64 (N,), ascending.
        log_times_ms: int64 (N,), the broker's time of each record, milliseconds since 1970.
        buffer: What the places are in.
        keys: Of each record.
        values: Likewise.
        headers: Likewise, each a Kafka header: name and value behind their varint lengths.
    """

    topic: str
    partition: int
    offsets: I64
    log_times_ms: I64
    buffer: bytes
    keys: Places
    values: Places
    headers: Places

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def first(self) -> int:
        """Offset of the first record."""
        return int(self.offsets[0])

    @property
    def next(self) -> int:
        """Offset after the last record."""
        return int(self.offsets[-1]) + 1

    @property
    def size(self) -> int:
        """Bytes of all values."""
        return int(np.maximum(self.values.size, 0).sum())

    def source(self, row: int) -> Source:
        """Coordinates of one row."""
        return Source(self.topic, self.partition, int(self.offsets[row]))

    def matrix(self, places: Places, width: int) -> NDArray[np.uint8]:
        """Bytes of fields that are all of one size above 0; uint8 (N, width)."""
        # One item for each place of the buffer: a record is then copied as a whole.
        shape, item = (len(self.buffer) - width + 1,), np.dtype((np.void, width))
        whole = np.ndarray(shape, item, self.buffer, strides=(1,))
        return whole[places.start].view(np.uint8).reshape(-1, width)

    def at(self, rows: slice | NDArray[np.bool_] | I64) -> RawBatch:
        """Some rows, over the same buffer."""
        return RawBatch(
            self.topic,
            self.partition,
            self.offsets[rows],
            self.log_times_ms[rows],
            self.buffer,
            self.keys.at(rows),
            self.values.at(rows),
            self.headers.at(rows),
        )

    def records(self) -> RecordBatch:
        """The same records, each key, value and header an object."""
        return RecordBatch(
            self.topic,
            self.partition,
            self.offsets,
            self.log_times_ms,
            self._cut(self.keys),
            self._cut(self.values),
            self._headers(),
        )

    @classmethod
    def of(cls, records: RecordBatch) -> RawBatch:
        """Records that are objects already."""
        count = len(records)
        rows = records.headers or [()] * count
        headers = [b"".join(_header_bytes(*header) for header in row) for row in rows]
        fields: tuple[Sequence[bytes | None], ...] = (records.keys, records.values, headers)
        whole = [b"".join(filter(None, field)) for field in fields]
        starts = np.cumsum([0, *map(len, whole)]).tolist()
        keys, values, blocks = (
            _end_to_end(field, start) for field, start in zip(fields, starts, strict=False)
        )
        counts = np.fromiter(map(len, rows), np.int64, count)
        return cls(
            records.topic,
            records.partition,
            records.offsets,
            records.log_times_ms,
            b"".join(whole),
            keys,
            values,
            Places(blocks.start, counts),
        )

    def _cut(self, places: Places) -> list[bytes | None]:
        buffer, starts = self.buffer, places.start.tolist()
        stops = (places.start + places.size).tolist()
        if (places.size >= 0).all():
            return [buffer[start:stop] for start, stop in zip(starts, stops, strict=True)]
        return [
            buffer[start:stop] if stop >= start else None
            for start, stop in zip(starts, stops, strict=True)
        ]

    def _headers(self) -> list[Headers] | None:
        rows = np.flatnonzero(self.headers.size).tolist()
        if not rows:
            return None
        found: list[Headers] = [()] * len(self)
        for row in rows:
            start, count = self.headers.start[row].item(), self.headers.size[row].item()
            found[row] = read_headers(self.buffer, start, count)[0]
        return found


def read_headers(buffer: bytes, at: int, count: int) -> tuple[list[tuple[str, bytes | None]], int]:
    """So many headers from a place on, and the place behind them.

    A name that is no UTF-8 is read as Kafka's Java clients read it, U+FFFD for what is none.

    Raises:
        ValueError, IndexError: there are none.
    """
    found = []
    for _ in range(count):
        size, at = decode_varint_py(buffer, at)
        if size < 0:
            raise ValueError("a header has no name")
        name = buffer[at : at + size].decode("utf-8", "replace")
        at += size
        size, start = decode_varint_py(buffer, at)
        at = start + max(size, 0)
        found.append((name, buffer[start:at] if size >= 0 else None))
    return found, at


def _header_bytes(name: str, value: bytes | None) -> bytes:
    text, out = name.encode(), bytearray()
    encode_varint(len(text), out.append)
    out += text
    encode_varint(-1 if value is None else len(value), out.append)
    return bytes(out) + (value or b"")


def _end_to_end(field: Sequence[bytes | None], start: int) -> Places:
    """Where values are that lie one behind the other from `start` on."""
    sizes = [-1 if value is None else len(value) for value in field]
    size = np.array(sizes, np.int64)
    room = np.maximum(size, 0)
    return Places(start + np.cumsum(room) - room, size)
