"""The columnar walk over fetch responses made in memory, beside aiokafka's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from headrace.streams.transport import columnar

TP = TopicPartition("t", 3)
Rows = Sequence[tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]]


def modern(rows: Rows, *, base: int = 0, producer: int = -1, transactional: bool = False) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=int(transactional),
        producer_id=producer,
        producer_epoch=0,
        base_sequence=0,
        batch_size=1 << 20,
    )
    for offset, stamp, key, value, headers in rows:
        assert builder.append(offset, stamp, key, value, headers) is not None
    built = bytearray(builder.build())
    built[:8] = base.to_bytes(8, "big")  # outside the checksum
    return bytes(built)


def legacy(rows: Rows) -> bytes:
    builder = LegacyRecordBatchBuilder(1, compression_type=0, batch_size=1 << 20)
    for offset, stamp, key, value, _ in rows:
        builder.append(offset, stamp, key, value)
    return bytes(builder.build())


def simple(count: int, start: int = 0) -> list[Any]:
    return [(start + i, 1000 + i, b"k%d" % i, b"v%d" % i, []) for i in range(count)]


def response(
    *batches: bytes, fetched_at: int = 0, aborted: Any = None, isolation: int = READ_UNCOMMITTED
) -> Any:
    return PartitionRecords(
        TP, MemoryRecords(b"".join(batches)), aborted, fetched_at, None, None, True, isolation
    )


def both(*batches: bytes, **options: Any) -> tuple[list[Any], list[Any], int, int]:
    """Rows of the public walk and of the columnar one, and where each ended."""
    public, found = response(*batches, **options), response(*batches, **options)
    rows = [(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in public]
    try:
        batch = columnar.read_partition(TP, found, exact=False)
    except columnar.GapError:
        found = response(*batches, **options)
        batch = columnar.read_partition(TP, found, exact=True)
    if batch is None:
        return rows, [], public.next_fetch_offset, found.next_fetch_offset
    headers = batch.headers if batch.headers is not None else [[] for _ in range(len(batch))]
    columns = zip(
        batch.offsets.tolist(),
        batch.log_times_ms.tolist(),
        batch.keys,
        batch.values,
        map(list, headers),
        strict=True,
    )
    return rows, list(columns), public.next_fetch_offset, found.next_fetch_offset


GAPPED = [row for row in simple(20) if row[0] not in (3, 4, 11)]
HEADED = [(i, 5, None, None if i == 2 else b"", [("h", None)] if i % 2 else []) for i in range(5)]


@pytest.mark.parametrize(
    ("batches", "fetched_at"),
    [
        ([modern(simple(4))], 0),
        ([modern(simple(4)), modern(simple(3), base=4), modern(simple(2), base=9)], 0),
        ([modern(simple(10))], 6),
        ([modern(simple(10))], 10),
        ([modern(GAPPED)], 0),
        ([modern(GAPPED)], 5),
        ([modern(simple(20)[3:])], 0),
        ([modern(HEADED), modern(HEADED, base=5)], 7),
        ([modern(HEADED, base=5), modern(simple(3), base=10)], 9),
        ([modern(simple(3)), modern(GAPPED, base=3), modern(simple(3), base=30)], 2),
        ([modern(HEADED)], 0),
        ([legacy(simple(3))], 1),
    ],
)
def test_same_rows_as_the_public_walk(batches: list[bytes], fetched_at: int) -> None:
    """Gaps, starts in the middle, headers, tombstones, old formats: rows and end are the same."""
    rows, columns, end, columns_end = both(*batches, fetched_at=fetched_at)
    assert columns == rows
    assert columns_end == end


def test_aborted_batches_are_left_out_only_when_committed_is_asked() -> None:
    """Batches of an aborted transaction are skipped under read_committed, others kept."""
    log = [
        modern(simple(2), base=0, producer=7, transactional=True),
        modern(simple(2), base=2, producer=8, transactional=True),
        modern(simple(2), base=4),
        modern(simple(1), base=6, producer=7, transactional=True),
    ]
    rows, columns, end, columns_end = both(*log, aborted=[(7, 0)], isolation=READ_COMMITTED)
    assert columns == rows
    assert [row[0] for row in columns] == [2, 3, 4, 5]
    assert end == columns_end == 7
    rows, columns, *_ = both(*log, aborted=[(7, 0)], isolation=READ_UNCOMMITTED)
    assert columns == rows
    assert len(columns) == 7


def test_headers_are_none_when_no_record_has_any() -> None:
    """A batch without headers carries no header column."""
    batch = columnar.read_partition(TP, response(modern(simple(3))), exact=False)
    assert batch is not None
    assert batch.headers is None
    assert (batch.topic, batch.partition) == ("t", 3)
    assert batch.offsets.dtype == batch.log_times_ms.dtype == "int64"


def test_a_wrong_checksum_is_refused() -> None:
    """One flipped bit in the last batch refuses the response."""
    good, bad = modern(simple(3)), bytearray(modern(simple(3), base=3))
    bad[-1] ^= 1
    with pytest.raises(CorruptRecordException):
        columnar.read_partition(TP, response(good, bytes(bad)), exact=False)


def test_nothing_left_is_no_batch() -> None:
    """A response with nothing at or above the position gives None and still moves on."""
    found = response(modern(simple(3)), fetched_at=3)
    assert columnar.read_partition(TP, found, exact=False) is None
    assert found.next_fetch_offset == 3


def test_absent_names_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """This aiokafka has everything the lane needs, and a renamed attribute would be noticed."""
    assert columnar.missing() == []
    monkeypatch.setitem(columnar._NEEDED, "PartitionRecords", ("_records", "_renamed"))
    monkeypatch.setitem(columnar._NEEDED, "Gone", ("_records",))
    assert columnar.missing() == ["PartitionRecords._renamed", "Gone._records"]
