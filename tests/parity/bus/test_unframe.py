"""A response read as columns is what the client library makes of it, record by record."""

from __future__ import annotations

import struct
from itertools import islice
from typing import Any, NamedTuple

import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c, decode_varint_py
from aiokafka.structs import TopicPartition
from fakes.input_forms import Record
from fakes.raw_producer import RawName, record_batch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from headrace.schemas.batch import RecordBatch
from headrace.streams.bus.header_names import _AnyNames
from headrace.streams.bus.raw_batch import RawBatch
from headrace.streams.bus.unframe import OldFormatError, heads, starts_of, unframe

PART = TopicPartition("t", 3)
NONE, TRANSACTION, CONTROL, LOGGED = 0, 0x10, 0x20, 0x08
ABORT = struct.pack(">HH", 0, 0)
TEXT = st.none() | st.binary(max_size=3) | st.sampled_from([b"s" * 63, b"m" * 130, b"l" * 8200])
HEADERS = st.lists(st.tuples(st.text(max_size=3), TEXT), max_size=3) | st.just([("n", b"v")] * 70)
TIMES = st.integers(-5, 300) | st.integers(0, 1 << 45)
GAPS = st.sampled_from([0, 0, 0, 1, 70, 9000])
ROWS = st.lists(st.tuples(GAPS, TIMES, TEXT, TEXT, HEADERS), max_size=6)


class Batch(NamedTuple):
    """What a record batch is made of."""

    rows: list[Any]
    codec: int
    flags: int
    producer: int
    same: int  # how often its last row comes again


BATCHES = st.lists(
    st.builds(
        Batch,
        ROWS,
        st.integers(0, 4),
        st.sampled_from([NONE, LOGGED, TRANSACTION, TRANSACTION | LOGGED, TRANSACTION | CONTROL]),
        st.integers(1, 2),
        st.sampled_from([0, 0, 0, 70]),
    ),
    min_size=1,
    max_size=5,
)


def framed(batch: Batch, base: int) -> bytes:
    """A record batch as a broker keeps it, from an offset on."""
    codec = batch.codec if batch.rows and not batch.flags & CONTROL else 0
    builder = DefaultRecordBatchBuilder(2, codec, 0, batch.producer, 0, 0, 1 << 30)
    offset, rows = 0, list(batch.rows)
    if batch.flags & CONTROL:
        rows = [(0, 5, ABORT, b"", [])]
    for gap, time, key, value, headers in [*rows, *rows[-1:] * batch.same]:
        offset += gap
        builder.append(offset, 1_000_000 + time, key, value, headers)
        offset += 1
    raw = bytearray(builder.build())
    struct.pack_into(">q", raw, 0, base)
    raw[22] |= batch.flags
    if not rows:
        struct.pack_into(">i", raw, 23, 4)  # compacted until nothing was left
    struct.pack_into(">I", raw, 17, calc_crc32c(bytes(raw[21:])))
    return bytes(raw)


def response(batches: list[Batch], base: int = 50) -> bytes:
    raw = b""
    for batch in batches:
        raw += (made := framed(batch, base))
        base = next(heads(made)).end
    return raw


def found(raw: bytes, position: int, aborted: Any = ()) -> Any:
    return PartitionRecords(
        PART, MemoryRecords(raw), aborted, position, None, None, True, READ_COMMITTED
    )


def rows(batch: RecordBatch | None) -> list[Any]:
    if batch is None:
        return []
    headers = [list(row) for row in batch.headers or [()] * len(batch)]
    places = zip(batch.offsets.tolist(), batch.log_times_ms.tolist(), strict=True)
    return list(zip(places, batch.keys, batch.values, headers, strict=True))


@given(
    BATCHES,
    st.integers(40, 400),
    st.lists(st.tuples(st.integers(1, 2), st.integers(50, 400)), max_size=2),
    st.binary(max_size=70),
)
@settings(max_examples=100, deadline=None)
def test_a_response_is_what_the_library_makes_of_it(
    batches: Any, position: int, aborted: Any, cut: bytes
) -> None:
    """Any codec, transaction, marker, gap, time, null and header; its end may be cut off."""
    raw = response(batches)
    first = next(heads(raw))
    position = min(position, first.end - 1)  # a bus begins with the batch that holds it
    raw += raw[: min(len(cut), first.stop - 1)]
    plain, ours = found(raw, position, aborted), found(raw, position, aborted)
    expected = [
        ((row.offset, row.timestamp), row.key, row.value, list(row.headers)) for row in plain
    ]

    batch = unframe(PART, ours, raw)

    assert rows(None if batch is None else batch.records()) == expected
    assert ours.next_fetch_offset == plain.next_fetch_offset
    if batch is not None:
        assert rows(RawBatch.of(batch.records()).records()) == expected
        some = slice(len(batch) // 3, len(batch) - 1)
        assert rows(batch.at(some).records()) == expected[some]


class Plain(_AnyNames):
    """The library's reader in plain Python: the compiled one reads on behind its end."""

    def _read_msg(self) -> Any:
        return super()._read_msg(decode_varint_py)


def flags_of(raw: bytes) -> list[int]:
    """Where the flags of each record are, behind its length."""
    (count,) = struct.unpack_from(">i", raw, 57)
    return [decode_varint_py(raw, at)[1] for at in starts_of(raw, 61, len(raw), count)]


@given(BATCHES, st.data())
@settings(max_examples=100, deadline=None)
def test_what_is_no_record_is_never_read_as_one(batches: Any, data: Any) -> None:
    """Bytes that are changed under a right checksum: the library's records, or none at all."""
    raw = bytearray(response([batches[0]._replace(codec=0, flags=NONE)]))
    at = data.draw(st.integers(57, len(raw) - 1))
    # The flags of a record, one byte, are read in plain Python as if they could be more.
    assume(at not in flags_of(bytes(raw)))
    raw[at] = data.draw(st.integers(0, 255))
    struct.pack_into(">I", raw, 17, calc_crc32c(bytes(raw[21:])))
    changed = bytes(raw)
    plain = Plain(changed)
    try:
        expected = [(row.offset, row.key, row.value, list(row.headers)) for row in plain]
    except CorruptRecordException:
        expected = None

    try:
        batch = unframe(PART, found(changed, 0), changed)
    except CorruptRecordException:
        return
    records = rows(None if batch is None else batch.records())
    if expected is not None:  # what is before the position is not wanted
        expected = [row for row in expected if row[0] >= 0]
    assert [(place[0], *rest) for place, *rest in records] == expected


def test_a_wrong_checksum_is_seen() -> None:
    """Nothing of such a response is used."""
    raw = bytearray(response([Batch([(0, 0, b"k", b"v", [])], 0, NONE, 1, 0)]))
    raw[-2] ^= 1
    with pytest.raises(CorruptRecordException):
        unframe(PART, found(bytes(raw), 0), bytes(raw))


def test_an_old_format_is_left_to_the_library() -> None:
    """Its records are framed otherwise."""
    raw = bytearray(response([Batch([(0, 0, b"k", b"v", [])], 0, NONE, 1, 0)]))
    raw[16] = 1
    with pytest.raises(OldFormatError):
        unframe(PART, found(bytes(raw), 0), bytes(raw))


def test_a_header_name_that_is_no_utf8_is_read() -> None:
    """As Kafka's own clients read it; what else the record holds is there."""
    odd = Record(b"k", b"v", ((RawName("a\xff"), b"2"), ("more", None)))
    raw = bytes(record_batch([Record(b"k", b"u"), odd]).build())

    batch = unframe(PART, found(raw, 0), raw)

    assert batch is not None
    assert batch.records().headers == [(), [("a\ufffd", b"2"), ("more", None)]]


@pytest.mark.parametrize("count", [1, 3])
def test_records_must_fill_their_batch(count: int) -> None:
    """Two records of four bytes are not one, and not three."""
    with pytest.raises(CorruptRecordException):
        starts_of(bytes([6, 0, 0, 0, 6, 0, 0, 0]), 0, 8, count)


@pytest.mark.parametrize("length", [-12, -1, 0])
def test_a_batch_of_no_length_is_refused(length: int) -> None:
    """It moves nobody on, whatever comes behind it: its length is in no checksum."""
    good = response([Batch([(0, 0, b"k", b"v", [])], 0, NONE, 1, 0)])
    bad = bytearray(good)
    struct.pack_into(">i", bad, 8, length)
    raw = good + bytes(bad)

    assert len(list(islice(heads(raw), 3))) == 1
    with pytest.raises(CorruptRecordException):
        unframe(PART, found(raw, 0), raw)
