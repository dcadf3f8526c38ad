"""What a replay is asked for, and what of it the log can give: pure, in offsets and times."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta

from headrace.schemas.batch import LastRecord
from headrace.schemas.errors import SettingsError
from headrace.schemas.fragments import iso_times

Clock = Literal["event", "broker"]
Offset = Annotated[int, Meta(ge=0)]

_OFFSETS = re.compile(r"(\d{1,9})(?::(\d{1,18})?(?:-(\d{1,18})?)?)?")


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is asked for. All that is given must hold of a row.

    Attributes:
        by: Which clock `start_ms` and `stop_ms` are of: the device's, or the broker's.
        start_ms: First time, milliseconds since 1970; None begins with the log.
        stop_ms: Time to stop before; None ends where the log ends when it is asked.
        offsets: Partition to first offset and the offset to stop before, None being the log's own
            edge; None asks for every partition.
        devices: Only rows of these entities; empty asks for all.
        prediction: Only the row of this prediction id.
    """

    by: Clock = "event"
    start_ms: int | None = None
    stop_ms: int | None = None
    offsets: dict[int, tuple[Offset | None, Offset | None]] | None = None
    devices: tuple[str, ...] = ()
    prediction: str | None = None

    def check(self) -> None:
        """Refuse what no log could answer.

        Raises:
            SettingsError: a range that is reversed or empty by itself. Fatal.
        """
        start, stop = self.start_ms, self.stop_ms
        if start is not None and stop is not None and start >= stop:
            what = "empty" if start == stop else "reversed"
            raise SettingsError(
                f"the range from {_utc(start)} to {_utc(stop)} is {what}, expected a start "
                f"before its end; swap or widen them"
            )
        for partition, (first, last) in (self.offsets or {}).items():
            if first is not None and last is not None and first >= last:
                what = "empty" if first == last else "reversed"
                raise SettingsError(
                    f"the offsets {partition}:{first}-{last} are {what}, expected a first offset "
                    f"below the one to stop before; swap or widen them"
                )

    @property
    def is_timed(self) -> bool:
        """Rows are chosen by a time."""
        return self.start_ms is not None or self.stop_ms is not None


class Span(NamedTuple):
    """Offsets of one partition to be read: from `start` up to but not including `stop`."""

    partition: int
    start: int
    stop: int


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch that was asked for and is not to be had.

    Attributes:
        why: ``expired`` (retention took it), ``future`` (not written yet) or ``unexported`` (the
            export that is read does not hold it).
        partition: Which, None for all of them.
        start: First offset, None where only times are known.
        stop: Offset after it, likewise.
        line: The finding for people.
    """

    why: Literal["expired", "future", "unexported"]
    partition: int | None = None
    start: int | None = None
    stop: int | None = None
    line: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Where the rows of a replay are.

    Attributes:
        topic: Topic name.
        wanted: What was asked for.
        spans: Offsets to read, by partition; rows in them are still to be chosen by `wanted`.
        missing: What cannot be had, known before reading.
        last: The last record of each partition's span, as far as it has one: tells whether the
            topic is still the same log.
    """

    topic: str
    wanted: Wanted
    spans: tuple[Span, ...]
    missing: tuple[Missing, ...] = ()
    last: dict[int, LastRecord] = {}

    @property
    def offsets(self) -> int:
        """How many offsets are to be read; records may be fewer."""
        return sum(span.stop - span.start for span in self.spans)

    def parts(self, size: int) -> list[Span]:
        """The spans cut where an offset is a multiple of `size`, in order.

        The cuts depend on offsets alone, so two replays that overlap have them at the same places.

        Example:
            >>> Plan(topic="t", wanted=Wanted(), spans=(Span(0, 90, 210),)).parts(100)
            [Span(partition=0, start=90, stop=100), Span(partition=0, start=100, stop=200), \
Span(partition=0, start=200, stop=210)]
        """
        found = []
        for partition, start, stop in self.spans:
            cuts = [start, *range((start // size + 1) * size, stop, size), stop]
            found += [Span(partition, a, b) for a, b in itertools.pairwise(cuts) if a < b]
        return found


def parse_offsets(text: str) -> dict[int, tuple[int | None, int | None]]:
    """Offsets by partition, as people write them; the second is the one to stop before.

    Raises:
        SettingsError: another form, or a partition twice. Fatal.

    Example:
        >>> parse_offsets("0:100-200,2:50-,3")
        {0: (100, 200), 2: (50, None), 3: (None, None)}
    """
    found: dict[int, tuple[int | None, int | None]] = {}
    for piece in text.split(","):
        match = _OFFSETS.fullmatch(piece.strip())
        if match is None or int(match[1]) in found:
            raise SettingsError(
                f"offsets {piece.strip()!r} are not understood, expected each partition once as "
                f"PARTITION:FIRST-STOP such as 0:100-200, 0:100- or 0"
            )
        first, last = match[2], match[3]
        only = first is not None and "-" not in piece
        found[int(match[1])] = (
            None if first is None else int(first),
            int(first) + 1 if only else None if last is None else int(last),
        )
    return found


class Edges(NamedTuple):
    """What is known of one partition before a replay.

    Attributes:
        begin: First offset of the log.
        end: Offset after the last.
        from_time: First offset at or after the time that reading may begin with; `begin` for none.
        to_time: The same of the time that it may stop with; `end` for none.
        first_ms: Broker time of the record at `begin`; None where that is not known.
    """

    begin: int
    end: int
    from_time: int
    to_time: int
    first_ms: int | None = None


def lay_out(topic: str, wanted: Wanted, edges: Mapping[int, Edges], *, now_ms: int) -> Plan:
    """Spans to read for what is wanted, and what of it the log cannot give.

    Args:
        topic: Topic name.
        wanted: Checked.
        edges: Of every partition.
        now_ms: The present, milliseconds since 1970.

    Raises:
        SettingsError: offsets of a partition that the topic has not. Fatal.
    """
    spans, missing = [], []
    asked = wanted.offsets
    for partition in asked or ():
        if partition not in edges:
            raise SettingsError(
                f"topic {topic!r} has no partition {partition}, expected one of "
                f"0 to {len(edges) - 1}; correct the offsets"
            )
    missing += _in_future(topic, wanted, now_ms)
    for partition, edge in sorted(edges.items()):
        if asked is None or partition in asked:
            first, last = (None, None) if asked is None else asked[partition]
            missing += _beyond(topic, wanted, partition, edge, first, last)
            start = max(edge.from_time, edge.begin, first or 0)
            stop = min(edge.to_time, edge.end, edge.end if last is None else last)
            if start < stop:
                spans.append(Span(partition, start, stop))
    return Plan(topic=topic, wanted=wanted, spans=tuple(spans), missing=tuple(missing))


def _in_future(topic: str, wanted: Wanted, now_ms: int) -> list[Missing]:
    """What is asked for and cannot have happened yet."""
    for time_ms, does in ((wanted.start_ms, "begins"), (wanted.stop_ms, "ends")):
        if time_ms is not None and time_ms > now_ms:
            line = (
                f"the range of {topic} {does} in the future, at {_utc(time_ms)}: what is written "
                f"until then is not in it"
            )
            return [Missing(why="future", line=line)]
    return []


def _utc(time_ms: int) -> str:
    """A time for people.

    Example:
        >>> _utc(1795255200000)
        '2026-11-21T10:00:00.000Z'
    """
    return iso_times(np.array([time_ms]))[0].decode()


def _beyond(
    topic: str, wanted: Wanted, partition: int, edge: Edges, first: int | None, last: int | None
) -> list[Missing]:
    """What of one partition is asked for and lies outside its log."""
    found, name = [], f"{topic}[{partition}]"
    start = wanted.start_ms
    if first is not None and first < edge.begin:
        stop = edge.begin if last is None else min(edge.begin, last)
        found.append(
            Missing(
                why="expired", partition=partition, start=first, stop=stop,
                line=f"{name}@{first} to {stop} is no longer in the log, which begins at "
                f"{edge.begin}: {stop - first} offsets have expired",
            )
        )  # fmt: skip
    elif start is not None and edge.begin and (edge.first_ms is None or edge.first_ms > start):
        after = f", after the start of the range, at {_utc(edge.first_ms)}" if edge.first_ms else ""
        found.append(
            Missing(
                why="expired", partition=partition, start=0, stop=edge.begin,
                line=f"{name} begins at offset {edge.begin}{after}: what was before has expired",
            )
        )  # fmt: skip
    if last is not None and last > edge.end:
        begin = max(edge.end, first or 0)
        found.append(
            Missing(
                why="future", partition=partition, start=begin, stop=last,
                line=f"{name}@{begin} to {last} is not written yet, the log ends at {edge.end}",
            )
        )  # fmt: skip
    return found
