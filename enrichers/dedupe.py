"""Repeats by event id: remembered by segments of event time, over the allowed lateness."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import I64

SEGMENTS = 4
"""Segments the allowed lateness is cut into: ids are kept up to a fourth longer than it."""

BYTES_PER_ID = 100
"""Memory of one remembered id of 16 characters, bytes: its text (65) and its place in a set (27 to
53, as the set grows); 79 to 87 were measured in all. At 10,000 events/s and 30 s of lateness, with
the fourth that may be kept longer, 38 MB."""


@dataclass(slots=True)
class NewIds:
    """What one batch adds to the memory.

    Attributes:
        ids: Segment to the ids in it, in log order.
        name: Names the fields in the checkpoint: the batch's first offset.
        watermark: After the batch: segments that end before it, less the lateness, are dropped.
    """

    ids: dict[int, list[str]]
    name: int
    watermark: int


class SeenIds:
    """Event ids of one partition, exactly.

    An event is a repeat when its id was seen in a segment of event time that still lives at the
    watermark before it: one that does not end before watermark - lateness. An event that comes
    again with its own time is therefore either recognised or late, never counted twice. (One that
    borrows an id with another time is recognised up to a segment longer.)

    Args:
        lateness_ms: Allowed lateness, milliseconds.
    """

    def __init__(self, lateness_ms: int) -> None:
        self._lateness_ms = lateness_ms
        self._segment_ms = max(1, -(-lateness_ms // SEGMENTS))
        self._segments: dict[int, set[str]] = {}
        self._fields: dict[int, list[bytes]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._segments.values()))

    def find(self, ids: Sequence[str], times: I64, before: I64) -> NDArray[np.bool_]:
        """Which of a batch's events are repeats, of the memory or of one another.

        A batch without any costs a few set operations; only ids that occur again are looked at
        one by one.

        Args:
            ids: N ids, in log order.
            times: int64 (N,), event times, none late.
            before: int64 (N,), the watermark before each event.

        Returns:
            bool (N,).
        """
        distinct = set(ids)
        again: set[str] = set()
        for segment in self._segments.values():
            if not segment.isdisjoint(distinct):
                again |= segment & distinct
        if len(distinct) < len(ids):
            again |= _doubled(ids)
        repeats = np.zeros(len(ids), np.bool_)
        if again:
            rows = [row for row, event_id in enumerate(ids) if event_id in again]
            repeats[rows] = self._judge(rows, ids, times, before)
        return repeats

    def _judge(
        self, rows: list[int], ids: Sequence[str], times: I64, before: I64
    ) -> Iterator[bool] | list[bool]:
        """One by one: whether the id's newest segment still lives at the event."""
        newest: dict[str, int] = {}
        verdicts = []
        for row in rows:
            event_id = ids[row]
            known = newest.get(event_id)
            if known is None:
                held = [s for s, segment in self._segments.items() if event_id in segment]
                known = max(held, default=None)
            living = known is not None and self._lives(known, int(before[row]))
            verdicts.append(living)
            newest[event_id] = known if living and known is not None else self._of(int(times[row]))
        return verdicts

    def new(self, ids: Sequence[str], times: I64, *, name: int, watermark: int) -> NewIds:
        """What to remember of a batch's events, none of them late or a repeat."""
        segments = times // self._segment_ms
        found: dict[int, list[str]] = {}
        distinct = np.unique(segments).tolist()
        if len(distinct) == 1:
            found[distinct[0]] = list(ids)
        else:
            for segment in distinct:
                rows = np.flatnonzero(segments == segment).tolist()
                found[segment] = [ids[row] for row in rows]
        living = {s: i for s, i in found.items() if self._lives(s, watermark)}
        return NewIds(living, name, watermark)

    def changed(self, new: NewIds) -> Iterator[tuple[bytes, bytes]]:
        """Checkpoint fields that remember `new`: one for each segment and batch."""
        for segment, ids in new.ids.items():
            yield _field(segment, new.name), msgspec.msgpack.encode(ids)

    def dropped(self, new: NewIds) -> list[bytes]:
        """Checkpoint fields of the segments that end with this batch."""
        gone = [s for s in self._segments if not self._lives(s, new.watermark)]
        return [field for s in gone for field in (_field(s, None), *self._fields[s])]

    def fold(self, new: NewIds) -> None:
        """Remember `new`, forget what no longer lives."""
        for segment, ids in new.ids.items():
            self._segments.setdefault(segment, set()).update(ids)
            self._fields.setdefault(segment, []).append(_field(segment, new.name))
        for segment in [s for s in self._segments if not self._lives(s, new.watermark)]:
            del self._segments[segment], self._fields[segment]

    def dump(self) -> Iterator[tuple[bytes, bytes]]:
        """All of it: one field for each segment."""
        for segment in sorted(self._segments):
            yield _field(segment, None), msgspec.msgpack.encode(sorted(self._segments[segment]))

    def load(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """Remember exactly what these fields say, in any order."""
        self._segments, self._fields = {}, {}
        for field, content in fields:
            segment = int(field.removeprefix(PREFIX).partition(b"/")[0])
            ids = msgspec.msgpack.decode(content, type=list[str])
            self._segments.setdefault(segment, set()).update(ids)
            self._fields.setdefault(segment, []).append(field)

    def _of(self, time: int) -> int:
        return time // self._segment_ms

    def _lives(self, segment: int, watermark: int) -> bool:
        return (segment + 1) * self._segment_ms > watermark - self._lateness_ms


PREFIX = b"bids/"


def _field(segment: int, name: int | None) -> bytes:
    return PREFIX + (b"%d" % segment if name is None else b"%d/%d" % (segment, name))


def _doubled(ids: Sequence[str]) -> set[str]:
    seen: set[str] = set()
    again: set[str] = set()
    for event_id in ids:
        (again if event_id in seen else seen).add(event_id)
    return again
