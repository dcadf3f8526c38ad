"""Header names that are no UTF-8: aiokafka cannot read them, Kafka's own clients can.

Kafka takes any bytes for a header's name, and its Java clients read what is no UTF-8 as U+FFFD.
aiokafka raises instead, so that one record would end every worker that meets it, for ever. Here
such a record is read as the Java clients read it. The check costs a second walk over each record
batch, so it begins when the first such name was met: whoever meets it calls `expect_any` and reads
again.
"""

from __future__ import annotations

from typing import Any

from aiokafka.consumer import fetcher  # type: ignore[import-untyped]
from aiokafka.record import default_records  # type: ignore[import-untyped]
from aiokafka.record.memory_records import MemoryRecords  # type: ignore[import-untyped]

_HEAD = 12  # of a record batch: its base offset, then the length of what follows


class _Text(bytearray):
    """Bytes whose slices decode whatever they hold."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return _Text(found) if isinstance(place, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)


class _AnyNames(default_records._DefaultRecordBatchPy):  # type: ignore[misc]  # untyped base
    """A record batch read in plain Python, whatever its header names are."""

    _buffer: bytearray

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _Text(self._buffer)


class _Records(MemoryRecords):  # type: ignore[misc]  # untyped base
    """A fetch response's record batches; once expected, those with such names are read too."""

    expecting = False

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self._raw, self._at = raw, 0

    def next_batch(self) -> Any:
        """The next record batch, None behind the last."""
        batch, start = super().next_batch(), self._at
        size = _HEAD + int.from_bytes(self._raw[start + 8 : start + _HEAD], "big")
        self._at += size
        if batch is None or not self.expecting:
            return batch
        raw = self._raw[start : start + size]
        return batch if _readable(raw) else _AnyNames(raw)


def _readable(raw: bytes) -> bool:
    try:
        for _ in MemoryRecords(raw).next_batch():
            pass
    except UnicodeDecodeError:
        return False
    return True


def allow_any_names() -> None:
    """Make every consumer of this process able to read such records; one of the repairs."""
    fetcher.MemoryRecords = _Records


def expect_any() -> None:
    """From now on look at every record batch, since one with such a name was met."""
    _Records.expecting = True
