"""A fetch response as columns, without an object for each record.

In a record batch (format 2) each record begins with its length, so they are found one after
another; all of what is in them, the fields behind one another, is read by columns.
Source: Kafka's message format, https://kafka.apache.org/documentation/#recordbatch.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from aiokafka.errors import CorruptRecordException  # type: ignore[import-untyped]
from aiokafka.record.default_records import (  # type: ignore[import-untyped]
    _DefaultRecordBatchPy,
)
from aiokafka.record.util import decode_varint_py  # type: ignore[import-untyped]
from numpy.typing import NDArray

from headrace.schemas.batch import I64
from headrace.streams.bus.raw_batch import Places, RawBatch, read_headers
from headrace.streams.transport.columnar import wanted_batches

_HEAD = struct.Struct(">qi4xb4xhi")
"""Base offset, length of what follows, format, attributes, last offset's distance."""
_TIMES, _COUNT = struct.Struct(">qq"), struct.Struct(">i")
_TIMES_AT, _COUNT_AT, _RECORDS_AT = 27, 57, 61
_BEFORE_LENGTH, _FORMAT = 12, 2
_COMPRESSED, _LOGGED = 0x07, 0x08
_MORE, _LONGEST_VARINT = 0x80, 10
_MANY_HEADERS = 64
"""Of one record: so many are read one after another."""


class OldFormatError(Exception):
    """A record batch is of a format before 2: let the client library read it."""


class Head(NamedTuple):
    """Where a record batch is in a response.

    Attributes:
        start: Its first byte.
        stop: The byte after its last.
        base: Its base offset; distances of offsets are from it.
        end: The offset after it.
        attributes: Its flags.
    """

    start: int
    stop: int
    base: int
    end: int
    attributes: int


def heads(raw: bytes) -> Iterator[Head]:
    """Heads of the whole record batches of a response; the last may be cut off.

    It ends before one whose length is none: the library that reads the response refuses that.

    Raises:
        OldFormatError: one is of an older format.

    Example:
        >>> list(heads(_HEAD.pack(40, 15, 2, 0, 9)))
        [Head(start=0, stop=27, base=40, end=50, attributes=0)]
    """
    at = 0
    while at + _HEAD.size <= len(raw):
        base, length, kind, attributes, last = _HEAD.unpack_from(raw, at)
        if kind != _FORMAT:
            raise OldFormatError
        stop = at + _BEFORE_LENGTH + length
        if not at + _HEAD.size <= stop <= len(raw):
            return
        yield Head(at, stop, base, base + last + 1, attributes)
        at = stop


def unframe(part: Any, found: Any, raw: bytes) -> RawBatch | None:
    """All records of a response that are to be read; None where there are none.

    Args:
        part: Topic and partition.
        found: aiokafka's `PartitionRecords` of the response; read to its end.
        raw: The response.

    Raises:
        OldFormatError: see there.
        CorruptRecordException: a checksum is wrong, or what it is of are no records; nothing of the
            response may be used.
    """
    places = {head.base: head for head in heads(raw)}
    frames, position = _Frames(raw), found.next_fetch_offset
    for batch in wanted_batches(part, found):
        frames.add(places[batch.base_offset])
    try:
        return frames.build(part, position)
    except (IndexError, ValueError) as error:
        raise broken() from error


def broken() -> CorruptRecordException:
    """What to raise of bytes that are no records, though their checksum is right."""
    return CorruptRecordException("found invalid record structure")


class _Frames:
    """The records of the batches of a response: found, then read together.

    Args:
        raw: The response.
    """

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._pieces: list[Any] = [raw]
        self._size = len(raw)
        self._starts: list[int] = []
        self._batches: list[tuple[int, int, int, bool]] = []

    def add(self, head: Head) -> None:
        """Find the records of a batch."""
        raw, start = self._raw, head.start
        first_ms, last_ms = _TIMES.unpack_from(raw, start + _TIMES_AT)
        (count,) = _COUNT.unpack_from(raw, start + _COUNT_AT)
        at, stop, shift = start + _RECORDS_AT, head.stop, 0
        if head.attributes & _COMPRESSED:
            batch = _DefaultRecordBatchPy(raw[start:stop])
            batch._maybe_uncompress()
            raw, at, stop, shift = batch._buffer, 0, len(batch._buffer), self._size
            self._pieces.append(raw)
            self._size += stop
        found = starts_of(raw, at, stop, count)
        self._starts += [place + shift for place in found] if shift else found
        logged = bool(head.attributes & _LOGGED)
        self._batches.append((count, head.base, last_ms if logged else first_ms, logged))

    def build(self, part: Any, position: int) -> RawBatch | None:
        """Those at or above an offset; None for none."""
        buffer = self._raw if len(self._pieces) == 1 else b"".join(self._pieces)
        read = _Fields(np.frombuffer(buffer, np.uint8), np.array(self._starts, np.int64))
        counts, base, time, logged = np.array(self._batches, np.int64).reshape(-1, 4).T
        size = read.varint()
        behind = read.at + size
        read.skip(1)
        times, offsets = read.varint(), read.varint()
        keys, values = read.field(), read.field()
        count = read.varint()
        headers = Places(read.at, count)
        if not np.array_equal(read.behind_headers(count, behind), behind):
            raise broken()
        found = RawBatch(
            part.topic,
            part.partition,
            np.repeat(base, counts) + offsets,
            np.repeat(time, counts) + np.where(np.repeat(logged, counts) > 0, 0, times),
            buffer,
            keys,
            values,
            headers,
        )
        early = found.offsets < position
        if early.any():
            found = found.at(~early)
        return found if len(found) else None


class _Fields:
    """Reads the fields of all records, one after another.

    Args:
        buffer: uint8.
        at: int64 (N,), where each record begins.

    Attributes:
        at: int64 (N,), where the next field begins.
    """

    def __init__(self, buffer: NDArray[np.uint8], at: I64) -> None:
        self._buffer, self.at = buffer, at

    def skip(self, count: int) -> None:
        """Pass over so many bytes."""
        self.at = self.at + count

    def varint(self) -> I64:
        """A number in Protocol Buffers' signed varint; int64 (N,).

        Raises:
            IndexError: the buffer ends within one. CorruptRecordException: one is too long.
        """
        byte = self._buffer.take(self.at)
        self.at = self.at + 1
        found = (byte & ~np.uint8(_MORE)).astype(np.int64)
        rows = np.flatnonzero(byte & _MORE)
        for place in range(1, _LONGEST_VARINT):
            if not len(rows):
                break
            byte = self._buffer.take(self.at[rows])
            self.at[rows] += 1
            found[rows] |= (byte & ~np.uint8(_MORE)).astype(np.int64) << 7 * place
            rows = rows[byte >= _MORE]
        if len(rows):
            raise broken()
        halves: I64 = (found.view(np.uint64) >> np.uint64(1)).view(np.int64)
        return halves ^ -(found & 1)

    def field(self) -> Places:
        """Bytes behind their length, which is below 0 where there are none.

        Raises:
            CorruptRecordException: a length is beyond the buffer.
        """
        size = self.varint()
        if (size > len(self._buffer)).any() or (size < -1).any():
            raise broken()
        found = Places(self.at, size)
        self.at = self.at + np.maximum(size, 0)
        return found

    def behind_headers(self, count: I64, stop: I64) -> I64:
        """Where so many headers of each record end, whose records should end at `stop`.

        Raises:
            CorruptRecordException: they are none.
            IndexError, ValueError: likewise.
        """
        if (count < 0).any():
            raise broken()
        behind = self.at.copy()
        for row in np.flatnonzero(count > _MANY_HEADERS).tolist():
            block = self._buffer[behind[row] : stop[row]].tobytes()
            behind[row] += read_headers(block, 0, count[row].item())[1]
        rows, number = np.flatnonzero((count > 0) & (count <= _MANY_HEADERS)), 0
        while len(rows):
            read = _Fields(self._buffer, behind[rows])
            if (read.field().size < 0).any():
                raise broken()
            read.field()
            behind[rows] = read.at
            number += 1
            rows = rows[count[rows] > number]
        return behind


def _steps() -> list[list[int]]:
    """Bytes of a record with its length, by the first two bytes of that; 0 where it has more."""
    first, second = np.ogrid[:256, :256]
    has_two = first >= _MORE
    number = np.where(has_two, first & ~_MORE | second << 7, first)
    readable = (number & 1 == 0) & ~(has_two & (second >= _MORE))
    steps: list[list[int]] = np.where(readable, (number >> 1) + 1 + has_two, 0).tolist()
    return steps


_STEPS = _steps()


def starts_of(raw: bytes | bytearray, at: int, stop: int, count: int) -> list[int]:
    """Where so many records begin that fill the bytes from `at` to `stop`.

    Raises:
        CorruptRecordException: they do not.

    Example:
        >>> starts_of(bytes([2, 0, 4, 0, 0]), 0, 5, 2)
        [0, 2]
    """
    if count > stop - at:
        raise broken()
    found: list[int] = []
    first, add, steps = at, found.append, _STEPS
    try:
        for _ in range(count):
            add(at)
            at += steps[raw[at]][raw[at + 1]]
        if at != stop:
            # A longer length does not move on, so that this is where such records end.
            at, found = first, []
            for _ in range(count):
                found.append(at)
                size, start = decode_varint_py(raw, at)
                at = start + size
    except (IndexError, ValueError) as error:
        raise broken() from error
    if at != stop:
        raise broken()
    return found
