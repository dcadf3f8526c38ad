"""The two units of the data path: records as read, and events as decoded, both columnar."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.errors import Source

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

Headers = Sequence[tuple[str, bytes | None]]
"""A record's headers in order: names may come again, and a value may be absent."""


@dataclass(slots=True)
class RecordBatch:
    """Consecutive records of one partition, as read from the bus. Never empty on the data path.

    Offsets ascend but may have gaps (transaction markers, compaction).

    Attributes:
        topic: Topic name.
        partition: Partition number.
        offsets: int64 (N,), ascending.
        log_times_ms: int64 (N,), the broker's time of each record, milliseconds since 1970.
        keys: N record keys, None where the record has none.
        values: N record values, None for a tombstone.
        headers: N header lists, or None when no record of the batch has headers.
    """

    topic: str
    partition: int
    offsets: I64
    log_times_ms: I64
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: list[Headers] | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def first(self) -> int:
        """Offset of the first record."""
        return int(self.offsets[0])

    @property
    def next(self) -> int:
        """Offset after the last record: the position to read on from."""
        return int(self.offsets[-1]) + 1

    def source(self, row: int) -> Source:
        """Coordinates of one row, for messages and headers."""
        return Source(self.topic, self.partition, int(self.offsets[row]))

    def slice(self, start: int, stop: int) -> RecordBatch:
        """Rows `start` to `stop` as a batch of their own (arrays are views)."""
        return RecordBatch(
            self.topic,
            self.partition,
            self.offsets[start:stop],
            self.log_times_ms[start:stop],
            self.keys[start:stop],
            self.values[start:stop],
            None if self.headers is None else self.headers[start:stop],
        )

    def take(self, keep: NDArray[np.bool_]) -> RecordBatch:
        """The rows where `keep` (bool (N,)) is true; the batch itself when all are."""
        if keep.all():
            return self
        rows = np.flatnonzero(keep).tolist()
        return RecordBatch(
            self.topic,
            self.partition,
            self.offsets[keep],
            self.log_times_ms[keep],
            [self.keys[r] for r in rows],
            [self.values[r] for r in rows],
            None if self.headers is None else [self.headers[r] for r in rows],
        )

    def since(self, offset: int) -> RecordBatch:
        """The rows at or above `offset` (possibly none)."""
        return self.slice(int(np.searchsorted(self.offsets, offset)), len(self))

    def last_record(self) -> LastRecord:
        """What identifies the last record of this batch on this log."""
        return LastRecord(
            int(self.offsets[-1]),
            int(self.log_times_ms[-1]),
            record_crc(self.keys[-1], self.values[-1]),
        )


def join_records(parts: Sequence[RecordBatch]) -> RecordBatch:
    """Batches one behind the other, under the coordinates of the first; a single one as it is."""
    if len(parts) == 1:
        return parts[0]
    headers: list[Headers] | None = None
    if any(part.headers is not None for part in parts):
        headers = [row for part in parts for row in (part.headers or [()] * len(part))]
    return RecordBatch(
        parts[0].topic,
        parts[0].partition,
        np.concatenate([part.offsets for part in parts]),
        np.concatenate([part.log_times_ms for part in parts]),
        [key for part in parts for key in part.keys],
        [value for part in parts for value in part.values],
        headers,
    )


@dataclass(frozen=True, slots=True)
class LastRecord:
    """The last record below a checkpoint's position: tells this log from another one.

    Attributes:
        offset: Its offset.
        log_time_ms: The broker's time of it, milliseconds since 1970.
        crc: CRC-32 of key and value (`record_crc`).
    """

    offset: int
    log_time_ms: int
    crc: int


def record_crc(key: bytes | None, value: bytes | None) -> int:
    """CRC-32 over key and value; None and empty count the same.

    Example:
        >>> record_crc(b"press-07", b"{}") == record_crc(b"press-07", b"{}")
        True
    """
    return zlib.crc32(value or b"", zlib.crc32(key or b""))


@dataclass(slots=True)
class EventBatch:
    """Decoded events of one partition, in log order.

    Attributes:
        topic: Source topic.
        partition: Source partition.
        offsets: int64 (N,), source offsets, ascending.
        log_times_ms: int64 (N,), broker time, milliseconds since 1970.
        event_times_ms: int64 (N,), device time, milliseconds since 1970.
        ids: N event ids; where the input has none, ``topic/partition/offset``.
        entities: N entity keys.
        metrics: float64 (N, M), columns in the order of the pipeline's metrics; NaN is missing.
        attributes: Attribute name to N short labels (declared, low cardinality).
    """

    topic: str
    partition: int
    offsets: I64
    log_times_ms: I64
    event_times_ms: I64
    ids: list[str]
    entities: list[str]
    metrics: F64
    attributes: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def slice(self, start: int, stop: int) -> EventBatch:
        """Rows `start` to `stop` as a batch of their own (arrays are views)."""
        return EventBatch(
            self.topic,
            self.partition,
            self.offsets[start:stop],
            self.log_times_ms[start:stop],
            self.event_times_ms[start:stop],
            self.ids[start:stop],
            self.entities[start:stop],
            self.metrics[start:stop],
            {name: column[start:stop] for name, column in self.attributes.items()},
        )

    def take(self, keep: NDArray[np.bool_]) -> EventBatch:
        """The rows where `keep` (bool (N,)) is true; the batch itself when all are."""
        if keep.all():
            return self
        rows = np.flatnonzero(keep).tolist()
        return EventBatch(
            self.topic,
            self.partition,
            self.offsets[keep],
            self.log_times_ms[keep],
            self.event_times_ms[keep],
            [self.ids[r] for r in rows],
            [self.entities[r] for r in rows],
            self.metrics[keep],
            {name: [column[r] for r in rows] for name, column in self.attributes.items()},
        )
