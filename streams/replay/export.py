"""One part of an export: read, chosen, written, marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headrace.schemas.errors import StateError
from headrace.streams.replay.choose import choose
from headrace.streams.replay.days import DayFiles
from headrace.streams.replay.folder import UNREADABLE_NAMED, Folder, Mark, Sheet
from headrace.streams.replay.ranges import Missing, Span
from headrace.streams.replay.source import Piece, Source
from headrace.streams.replay.throttle import Throttle
from headrace.streams.replay.writing import PartFile


@dataclass(slots=True)
class _Tally:
    undated: int = 0
    unreadable: int = 0
    named: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)

    def add(self, piece: Piece, undated: int) -> None:
        self.undated += undated
        self.unreadable += len(piece.unreadable)
        self.named += piece.unreadable[: UNREADABLE_NAMED - len(self.named)]
        self.notes += [note for note in piece.notes if note not in self.notes]


class Exporter:
    """Makes parts of one export.

    Args:
        source: Gives the rows.
        folder: Takes them.
        sheet: What the export is of.
        prediction: Source offset of the one prediction that is asked for; None for all.
        throttle: Paces the reading.
        told: Called with the partition and how many offsets were passed.

    Delivery: a part is made whole or not at all, and again with the same bytes.
    """

    def __init__(
        self,
        source: Source,
        folder: Folder,
        sheet: Sheet,
        *,
        prediction: int | None = None,
        throttle: Throttle,
        told: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._source, self._folder, self._sheet = source, folder, sheet
        self._prediction, self._throttle, self._told = prediction, throttle, told
        self._schema = sheet.arrow_schema

    async def part(self, span: Span) -> Mark:
        """Make one part; its mark is written.

        Raises:
            HeadraceError: what reading raised; nothing is left of the part.
            OSError: what writing raised, likewise.
        """
        tally = _Tally()
        out: PartFile | DayFiles | None = None
        try:
            at = span.start
            while at < span.stop:
                try:
                    async for piece in self._source.pieces(span._replace(start=at), self._fetch):
                        out = self._take(piece, out, span, tally)
                        self._told(piece.next - at)
                        at = piece.next
                        await self._throttle.took(piece.size, piece.records)
                    self._told(span.stop - at)
                    break
                except StateError as error:
                    at = await self._after_gap(span, at, tally, error)
            await self._source.check_same(self._sheet.plan, span.partition)
            files = out.close() if out is not None else []
        except BaseException:
            if out is not None:
                out.drop()
            raise
        mark = self._mark(span, files, tally, out.rows if out else 0)
        self._folder.mark(mark)
        return mark

    @property
    def _fetch(self) -> int | None:
        return self._throttle.fetch_bytes

    def _take(
        self, piece: Piece, out: PartFile | DayFiles | None, span: Span, tally: _Tally
    ) -> PartFile | DayFiles | None:
        wanted, facts = self._sheet.plan.wanted, self._sheet.table
        rows, undated = choose(piece.table, facts, wanted, self._prediction)
        tally.add(piece, undated)
        if not rows.num_rows:
            return out
        if out is None:
            out = self._begin(self._folder.file_of(span, self._sheet))
        out.write(rows)
        return out

    def _begin(self, file: Path) -> PartFile | DayFiles:
        sheet, labels = self._sheet, self._sheet.table.labels
        if sheet.day_of is None:
            return PartFile(file, self._schema, sheet.format, labels)
        name = f"{file.parent.name}-{file.name}"
        return DayFiles(
            self._folder.path, sheet.day_key, name, sheet.day_of, self._schema, labels
        )  # fmt: skip

    async def _after_gap(self, span: Span, at: int, tally: _Tally, error: StateError) -> int:
        """Where to go on when the log no longer holds `at`; what is gone is noted.

        Raises:
            StateError: it does hold it, so that something else is wrong; or it is another log.
        """
        await self._source.check_same(self._sheet.plan, span.partition)
        begin = await self._source.begin(span.partition)
        if begin <= at:
            raise error
        stop = min(begin, span.stop)
        self._told(stop - at)
        name = f"{self._source.topic}[{span.partition}]"
        tally.missing.append(
            Missing(
                why="expired",
                partition=span.partition,
                start=at,
                stop=stop,
                line=f"{name}@{at} to {stop} expired before it was read: {stop - at} offsets",
            )
        )
        return stop

    def _mark(self, span: Span, files: Sequence[Path], tally: _Tally, rows: int) -> Mark:
        return Mark(
            span=span,
            files=tuple(self._folder.made(file) for file in files),
            rows=rows,
            undated=tally.undated,
            unreadable=tally.unreadable,
            named=tuple(tally.named),
            missing=tuple(tally.missing),
            notes=tuple(tally.notes),
        )
