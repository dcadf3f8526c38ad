"""Which predictions were delivered before: exact, in a few numbers per source partition.

A worker publishes the predictions of one source partition in the order of their offsets, and
after a restart begins again somewhat earlier. So whatever lies at or below the highest offset
seen is a repeat, however long ago it was seen.
"""

from __future__ import annotations

import enum
import hashlib
from typing import Protocol, TypeVar

import msgspec

from headrace.schemas.summary import SummaryRecord
from headrace.streams.client.received import Received

NOTE_BYTES = 3500
"""Kafka keeps a commit's note up to 4096 bytes (`offset.metadata.max.bytes`)."""

AMENDED_KEPT = 10_000
SUMMARIES_KEPT = 4096

T_contra = TypeVar("T_contra", contravariant=True)


class Verdict(enum.Enum):
    """What an item is to a consumer that saw everything before it."""

    NEW = "new"
    ANEW = "anew"
    """New, and the first of another source log under the same name."""
    SUPERSEDES = "supersedes"
    REPEAT = "repeat"


class Marks(Protocol[T_contra]):
    """What was seen of one partition of the topic."""

    def accept(self, item: T_contra) -> Verdict:
        """Judge and remember one item; a repeat changes nothing."""

    def dump(self) -> str:
        """The marks as a commit's note of at most `NOTE_BYTES`; empty when they do not fit."""

    def load(self, note: str) -> bool:
        """Become what `dump` gave; false where `note` is none of ours."""


class SourceMark(msgspec.Struct, array_like=True):
    """What was seen of one source partition.

    Attributes:
        offset: Highest source offset.
        ingest_ms: Latest broker time of a source record, milliseconds since 1970.
        amended: Source offset to the highest revision above 0, oldest first.
    """

    offset: int
    ingest_ms: int
    amended: dict[int, int] = {}


class _Note(msgspec.Struct):
    headrace: int
    marks: dict[str, SourceMark]


_read_note = msgspec.json.Decoder(_Note).decode


class PredictionMarks:
    """Highest source offset per source partition, and the revisions above 0.

    An offset at or below the mark whose broker time is later than any seen is no repeat: the
    source topic was made anew, and the mark starts over.

    Revisions of the last 10,000 amended predictions are remembered, and the newest of them in
    the note; an amendment older than that is delivered again rather than lost.
    """

    def __init__(self) -> None:
        self._marks: dict[str, SourceMark] = {}

    def accept(self, item: Received) -> Verdict:
        """See `Marks.accept`."""
        place, _, text = item.source.rpartition("@")
        offset, ingest_ms = int(text), item.times_ms.ingest
        mark = self._marks.get(place)
        if mark is not None and offset <= mark.offset:
            if ingest_ms <= mark.ingest_ms:
                return self._amend(mark, offset, item.rev)
            self._marks[place] = SourceMark(offset, ingest_ms, {offset: item.rev})
            return Verdict.ANEW
        if mark is None:
            mark = self._marks[place] = SourceMark(offset, ingest_ms, {})
        mark.offset, mark.ingest_ms = offset, max(mark.ingest_ms, ingest_ms)
        if item.rev:
            self._amend(mark, offset, item.rev)
        return Verdict.NEW

    def dump(self) -> str:
        """See `Marks.dump`."""
        for kept in (100, 10, 0):
            marks = {
                place: SourceMark(m.offset, m.ingest_ms, dict(list(m.amended.items())[-kept:]))
                if kept
                else SourceMark(m.offset, m.ingest_ms)
                for place, m in self._marks.items()
            }
            note = msgspec.json.encode(_Note(1, marks))
            if len(note) <= NOTE_BYTES:
                return note.decode()
        return ""

    def load(self, note: str) -> bool:
        """See `Marks.load`."""
        try:
            read = _read_note(note)
        except msgspec.DecodeError:
            return False
        if read.headrace != 1:
            return False
        self._marks = read.marks
        return True

    def _amend(self, mark: SourceMark, offset: int, rev: int) -> Verdict:
        if rev <= mark.amended.get(offset, 0):
            return Verdict.REPEAT
        mark.amended.pop(offset, None)
        mark.amended[offset] = rev
        if len(mark.amended) > AMENDED_KEPT:
            del mark.amended[next(iter(mark.amended))]
        return Verdict.SUPERSEDES


class SummaryMarks:
    """Digests of the last 4096 summaries: a restarted worker repeats them to the letter.

    Summaries of one window that differ are two statements, not a repeat, so both are delivered.
    """

    def __init__(self) -> None:
        self._seen: dict[bytes, None] = {}

    def accept(self, item: SummaryRecord) -> Verdict:
        """See `Marks.accept`."""
        digest = hashlib.blake2b(msgspec.json.encode(item), digest_size=16).digest()
        if digest in self._seen:
            return Verdict.REPEAT
        self._seen[digest] = None
        if len(self._seen) > SUMMARIES_KEPT:
            del self._seen[next(iter(self._seen))]
        return Verdict.NEW

    def dump(self) -> str:
        """Always empty: they are read again from the log instead."""
        return ""

    def load(self, note: str) -> bool:
        """Never from a note."""
        return False


class NoMarks:
    """Nothing is a repeat."""

    def accept(self, item: object) -> Verdict:
        """See `Marks.accept`."""
        return Verdict.NEW

    def dump(self) -> str:
        """A note that says nothing."""
        return "{}"

    def load(self, note: str) -> bool:
        """Any note will do."""
        return True
