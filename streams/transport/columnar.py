"""From a fetch response to columns, whole record batches at a time.

aiokafka's public way makes one `ConsumerRecord` per record (1.4 us each). This lane walks the
same private objects by whole record batches (0.3 us with the checksum). It keeps every rule of
`PartitionRecords._unpack_records`: checksums, aborted transactions, control batches, gaps.
Where those objects look different, `missing` says so and the public way is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


class GapError(Exception):
    """Records are missing within a record batch: read the response again, exactly."""


class Columns:
    """Columns under construction.

    The loops keep no record object: thousands of live ones would set the cyclic garbage
    collector going, which doubles the cost of all this.
    """

    __slots__ = ("_headers", "_keys", "_log_times", "_offsets", "_values")

    def __init__(self) -> None:
        self._values: list[bytes | None] = []
        self._keys: list[bytes | None] = []
        self._offsets: list[I64] = []
        self._log_times: list[I64] = []
        self._headers: list[tuple[int, Headers]] = []

    def add(self, batch: Any, from_offset: int) -> None:
        """Append the records of one record batch at or above `from_offset`.

        Raises:
            GapError: Its offsets cannot be told from its head; `add_exactly` a fresh copy of it.
        """
        if type(batch) is not DefaultRecordBatch:
            self.add_exactly(batch, from_offset)
            return
        start, base = len(self._values), batch.base_offset
        logged = batch.timestamp_type == 1
        last, times = self._append_logged(batch) if logged else self._append_created(batch)
        count = len(self._values) - start
        if not count:
            return
        if last - base + 1 != count:
            raise GapError
        early = min(max(0, from_offset - base), count)
        if early:
            self._drop_early(start, early)
        if early == count:
            return
        if logged:
            times = np.full(count, batch.max_timestamp, np.int64)
        self._offsets.append(np.arange(base + early, last + 1, dtype=np.int64))
        self._log_times.append(np.array(times[early:], np.int64))

    def _append_logged(self, batch: Any) -> tuple[int, list[int] | I64]:
        value, key, headers = self._values.append, self._keys.append, self._headers
        row = None
        for row in batch:
            value(row.value)
            key(row.key)
            if row.headers:
                headers.append((len(self._values) - 1, row.headers))
        return (-1 if row is None else row.offset), []

    def _append_created(self, batch: Any) -> tuple[int, list[int] | I64]:
        value, key, headers = self._values.append, self._keys.append, self._headers
        times: list[int] = []
        time = times.append
        row = None
        for row in batch:
            value(row.value)
            key(row.key)
            time(row.timestamp)
            if row.headers:
                headers.append((len(self._values) - 1, row.headers))
        return (-1 if row is None else row.offset), times

    def _drop_early(self, start: int, early: int) -> None:
        del self._values[start : start + early]
        del self._keys[start : start + early]
        self._headers = [
            (row if row < start else row - early, headers)
            for row, headers in self._headers
            if not start <= row < start + early
        ]

    def add_exactly(self, batch: Any, from_offset: int) -> None:
        """As `add`, for any batch: with gaps in its offsets, or of an old format."""
        rows = [row for row in batch if row.offset >= from_offset]
        start = len(self._values)
        self._values += [row.value for row in rows]
        self._keys += [row.key for row in rows]
        self._headers += [(start + i, row.headers) for i, row in enumerate(rows) if row.headers]
        self._offsets.append(np.array([row.offset for row in rows], np.int64))
        self._log_times.append(np.array([row.timestamp for row in rows], np.int64))

    def build(self, tp: TopicPartition) -> RecordBatch | None:
        """The batch, or None when no record was left."""
        if not self._values:
            return None
        headers: list[Headers] | None = None
        if self._headers:
            headers = [()] * len(self._values)
            for row, found in self._headers:
                headers[row] = found
        return RecordBatch(
            tp.topic,
            tp.partition,
            _one(self._offsets),
            _one(self._log_times),
            self._keys,
            self._values,
            headers,
        )


def _one(parts: list[I64]) -> I64:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def read_partition(tp: TopicPartition, found: Any, *, exact: bool) -> RecordBatch | None:
    """All records of one fetched partition.

    Args:
        tp: The partition.
        found: aiokafka's `PartitionRecords`; read to its end, its `next_fetch_offset` moved.
        exact: Look at each record's offset (a sixth slower); else GapError where that is needed.

    Raises:
        GapError: The log has gaps within record batches; fetch again and read exactly.
        CorruptRecordException: A checksum is wrong; nothing of the response may be used.
    """
    columns = Columns()
    add = columns.add_exactly if exact else columns.add
    for batch in wanted_batches(tp, found):
        add(batch, found.next_fetch_offset)
    return columns.build(tp)


def wanted_batches(tp: TopicPartition, found: Any) -> Iterator[Any]:
    """Record batches of one fetched partition, without aborted and control batches.

    Args:
        tp: The partition.
        found: aiokafka's `PartitionRecords`; its `next_fetch_offset` moves behind each in turn.

    Raises:
        CorruptRecordException: A checksum is wrong; nothing of the response may be used.
    """
    records = found._records
    committed_only = found._isolation_level == _fetcher.READ_COMMITTED
    while records.has_next():
        batch = records.next_batch()
        if found._check_crcs and not batch.validate_crc():
            raise CorruptRecordException(f"checksum of {tp.topic}[{tp.partition}]")
        aborted = committed_only and batch.producer_id is not None and _aborted(found, batch)
        if not aborted and not batch.is_control_batch:
            yield batch
        found.next_fetch_offset = batch.next_offset


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
