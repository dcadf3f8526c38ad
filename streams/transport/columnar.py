"""From a fetch response to columns, whole record batches at a time.

aiokafka's public way makes one `ConsumerRecord` per record (1.4 us each). This lane walks the
same private objects by whole record batches (0.3 us with the checksum). It keeps every rule of
`PartitionRecords._unpack_records`: checksums, aborted transactions, control batches, gaps.
Where those objects look different, `missing` says so and the public way is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from aiokafka.consumer import fetcher as _fetcher  # type: ignore[import-untyped]
from aiokafka.errors import CorruptRecordException  # type: ignore[import-untyped]
from aiokafka.record.default_records import DefaultRecordBatch  # type: ignore[import-untyped]
from aiokafka.structs import ConsumerRecord, TopicPartition  # type: ignore[import-untyped]

from headrace.schemas.batch import I64, Headers, RecordBatch

# What the lane reads and calls, by owner; looked up in the compiled names of each class.
_NEEDED = {
    "PartitionRecords": (
        "_records",
        "_check_crcs",
        "_isolation_level",
        "_aborted_producers",
        "_consume_aborted_up_to",
        "_contains_abort_marker",
        "next_fetch_offset",
    ),
    "FetchResult": ("_partition_records", "_assignment", "_update_position", "check_assignment"),
    "Fetcher": ("_records", "_wait_consume_future", "_notify", "_create_fetch_waiter"),
}


def missing() -> list[str]:
    """Names of aiokafka that this lane needs and that are not there; empty: the lane works."""
    return [
        f"{owner}.{name}"
        for owner, names in _NEEDED.items()
        for name in names
        if not _known(getattr(_fetcher, owner, None), name)
    ]


def _known(owner: type | None, name: str) -> bool:
    if owner is None:
        return False
    code = getattr(vars(owner).get("__init__"), "__code__", None)
    return hasattr(owner, name) or (code is not None and name in code.co_names)


class Columns:
    """Columns under construction: record objects now, arrays and lists once at the end."""

    __slots__ = ("_log_times", "_offsets", "_rows", "_span")

    def __init__(self) -> None:
        self._rows: list[Any] = []
        self._offsets: list[I64] = []
        self._log_times: list[I64] = []
        self._span: list[int] = []

    def add(self, batch: Any, from_offset: int) -> None:
        """Append the records of one record batch at or above `from_offset`."""
        rows = list(batch)
        modern = type(batch) is DefaultRecordBatch
        first = batch.base_offset if modern else -1
        if not modern or first < from_offset:
            rows = [row for row in rows if row.offset >= from_offset]
        if not rows:
            return
        count = len(rows)
        # As many records as offsets: no gap, so the column needs no look at the records.
        if modern and first >= from_offset and batch.next_offset - first == count:
            self._extend_span(first, first + count)
        else:
            self._end_span()
            self._offsets.append(np.array([row.offset for row in rows], np.int64))
        if modern and batch.timestamp_type == 1:
            self._log_times.append(np.full(count, batch.max_timestamp, np.int64))
        else:
            self._log_times.append(np.array([row.timestamp for row in rows], np.int64))
        self._rows += rows

    def _extend_span(self, first: int, stop: int) -> None:
        if self._span and self._span[1] == first:
            self._span[1] = stop
        else:
            self._end_span()
            self._span = [first, stop]

    def _end_span(self) -> None:
        if self._span:
            self._offsets.append(np.arange(self._span[0], self._span[1], dtype=np.int64))
            self._span = []

    def build(self, tp: TopicPartition) -> RecordBatch | None:
        """The batch, or None when no record was left."""
        rows = self._rows
        if not rows:
            return None
        self._end_span()
        headers = [row.headers for row in rows]
        return RecordBatch(
            tp.topic,
            tp.partition,
            _one(self._offsets),
            _one(self._log_times),
            [row.key for row in rows],
            [row.value for row in rows],
            headers if any(headers) else None,
        )


def _one(parts: list[I64]) -> I64:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def read_partition(tp: TopicPartition, found: Any) -> RecordBatch | None:
    """All records of one fetched partition.

    Args:
        tp: The partition.
        found: aiokafka's `PartitionRecords`; read to its end, its `next_fetch_offset` moved.

    Raises:
        CorruptRecordException: A checksum is wrong; nothing of the response may be used.
    """
    columns = Columns()
    records = found._records
    committed_only = found._isolation_level == _fetcher.READ_COMMITTED
    while records.has_next():
        batch = records.next_batch()
        if found._check_crcs and not batch.validate_crc():
            raise CorruptRecordException(f"checksum of {tp.topic}[{tp.partition}]")
        aborted = committed_only and batch.producer_id is not None and _aborted(found, batch)
        if not aborted and not batch.is_control_batch:
            columns.add(batch, found.next_fetch_offset)
        found.next_fetch_offset = batch.next_offset
    return columns.build(tp)


def _aborted(found: Any, batch: Any) -> bool:
    found._consume_aborted_up_to(batch.base_offset)
    if batch.is_control_batch and found._contains_abort_marker(batch):
        found._aborted_producers.discard(batch.producer_id)
    return bool(batch.is_transactional and batch.producer_id in found._aborted_producers)


def from_records(tp: TopicPartition, records: Sequence[ConsumerRecord[Any, Any]]) -> RecordBatch:
    """Columns of records that came the public way."""
    headers: list[Headers] = [list(record.headers) for record in records]
    return RecordBatch(
        tp.topic,
        tp.partition,
        np.array([record.offset for record in records], np.int64),
        np.array([record.timestamp for record in records], np.int64),
        [record.key for record in records],
        [record.value for record in records],
        headers if any(headers) else None,
    )
