"""Where the rows of a replay come from: a topic on the bus, or an export of one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from headrace.schemas.errors import SettingsError
from headrace.streams.arrow import arrow
from headrace.streams.bus.connection import Options
from headrace.streams.bus.lone_reader import LoneReader
from headrace.streams.bus.scan import FETCH_BYTES
from headrace.streams.replay.folder import Folder, Sheet
from headrace.streams.replay.forms import RAW, Facts, Form
from headrace.streams.replay.locate import locate
from headrace.streams.replay.ranges import Edges, Missing, Plan, Span, Wanted, lay_out
from headrace.streams.replay.same_log import check_same_log, last_record

_Edge = tuple[int | None, int | None]
"""First offset and the one to stop before; None is the log's own."""


@dataclass(slots=True)
class Piece:
    """Rows as they were read.

    Attributes:
        table: A `pyarrow.RecordBatch`.
        first: Offset of the first record it is of.
        next: Offset after the last.
        records: How many records it is of.
        size: Their bytes.
        unreadable: Records that gave no row, ``topic[partition]@offset``.
        notes: What is to be said of it.
    """

    table: Any
    first: int
    next: int
    records: int
    size: int
    unreadable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Source(Protocol):
    """Gives the rows of one table.

    Attributes:
        topic: Topic name.
        facts: What is to be known of the table.
        schema: Its `pyarrow.Schema`.
    """

    topic: str
    facts: Facts
    schema: Any

    async def plan(self, wanted: Wanted, *, now_ms: int) -> Plan:
        """Where the rows are, and what of them is missing."""

    def pieces(self, span: Span, fetch_bytes: int | None) -> AsyncGenerator[Piece]:
        """Rows of the records of a span, in order; all of them, to be chosen from."""

    async def begin(self, partition: int) -> int:
        """First offset that can be read now."""

    async def check_same(self, plan: Plan, partition: int) -> None:
        """Refuse what was read where it is of another log than the plan; see `check_same_log`."""


class BusSource:
    """Rows of a topic (a `Source`).

    Args:
        options: Client options.
        reader: Of the topic.
        form: Makes rows of its records.
        skew_ms: How far an event's time may be ahead of the broker's, milliseconds.
    """

    def __init__(self, options: Options, reader: LoneReader, form: Form, skew_ms: int = 0) -> None:
        self.topic, self.facts, self.schema = reader.topic, form.facts, form.schema
        self._options, self._reader, self._form, self._skew_ms = options, reader, form, skew_ms

    async def plan(self, wanted: Wanted, *, now_ms: int) -> Plan:
        """See `locate`."""
        plan = await locate(
            self._options, self._reader, wanted, now_ms=now_ms, skew_ms=self._skew_ms
        )
        found = {span.partition: await last_record(self._reader, span) for span in plan.spans}
        last = {partition: record for partition, record in found.items() if record is not None}
        return msgspec.structs.replace(plan, last=last)

    async def pieces(self, span: Span, fetch_bytes: int | None) -> AsyncGenerator[Piece]:
        """See `Source.pieces` and `LoneReader.read`."""
        async for records in self._reader.read_raw(*span, fetch_bytes=fetch_bytes or FETCH_BYTES):
            table, made = self._form.table(records)
            bad = tuple(str(records.source(row)) for row in made.unreadable)
            yield Piece(
                table, records.first, records.next, len(records), records.size, bad, made.notes
            )  # fmt: skip

    async def begin(self, partition: int) -> int:
        """See `Source.begin`."""
        return (await self._reader.edges())[partition][0]

    async def check_same(self, plan: Plan, partition: int) -> None:
        """See `Source.check_same`."""
        if (last := plan.last.get(partition)) is not None:
            await check_same_log(self._reader, partition, last)


class ExportSource:
    """Rows of an export in Parquet (a `Source`): the same rows as the topic's, log or no log.

    Args:
        path: Its folder.
        raw: Want the records as they were read, too.

    Raises:
        SettingsError: no whole export in Parquet is there, or it lacks files or the records.
            Fatal.
    """

    def __init__(self, path: Path, *, raw: bool) -> None:
        folder = Folder(path)
        sheet, report = folder.sheet(), folder.report()
        if sheet is None or report is None or sheet.format != "parquet":
            raise SettingsError(
                f"folder {str(path)!r} holds no whole export in Parquet, expected one to read; "
                f"finish it, or name another"
            )
        folder.check_files(sheet, report)
        if sheet.day_of is not None:
            raise SettingsError(
                f"the export in {str(path)!r} is cut by day, so its rows are no longer in the "
                f"order of the log; query it with SQL, or make one that is not"
            )
        if raw and not sheet.table.raw:
            raise SettingsError(
                f"the export in {str(path)!r} has no records as they were read; make it with --raw"
            )
        self._folder, self._sheet, self._report = folder, sheet, report
        self.topic, self.pipeline = sheet.plan.topic, sheet.pipeline
        drops = sheet.table.raw and not raw and sheet.table.role != "records"
        fields = [f for f in sheet.arrow_schema if not (drops and f.name in _raw_names(sheet))]
        self.schema = arrow().schema(fields)
        self.facts = _with_raw(sheet.table, raw=sheet.table.raw and not drops)

    async def plan(self, wanted: Wanted, *, now_ms: int) -> Plan:
        """Its own spans, cut to what is wanted; what it never held is missing, as in it."""
        wanted.check()
        edges = {
            span.partition: Edges(span.start, span.stop, span.start, span.stop, wanted.start_ms)
            for span in self._sheet.plan.spans
        }
        unknown = [partition for partition in wanted.offsets or () if partition not in edges]
        missing = [*self._report.missing, *self._unexported(wanted, unknown)]
        edges |= {partition: Edges(0, 0, 0, 0) for partition in unknown}
        plan = lay_out(self.topic, wanted, edges, now_ms=now_ms)
        beyond = (m for m in plan.missing if m not in missing and m.partition not in unknown)
        found = (*missing, *beyond)
        return Plan(topic=self.topic, wanted=wanted, spans=plan.spans, missing=found)

    async def pieces(self, span: Span, fetch_bytes: int | None) -> AsyncGenerator[Piece]:
        """See `Source.pieces`."""
        for file in self._files(span):
            reader = arrow("parquet").ParquetFile(str(file))
            with reader:
                for batch in reader.iter_batches(columns=self.schema.names):
                    offsets = batch["offset"].to_numpy()
                    low, high = offsets.searchsorted([span.start, span.stop]).tolist()
                    if low < high:
                        rows = batch.slice(low, high - low)
                        columns = [rows[name] for name in self.schema.names]
                        # A file's own schema numbers its fields, which ours does not.
                        table = arrow().RecordBatch.from_arrays(columns, schema=self.schema)
                        first, last = int(offsets[low]), int(offsets[high - 1])
                        yield Piece(table, first, last + 1, high - low, table.nbytes)

    async def begin(self, partition: int) -> int:
        """See `Source.begin`: nothing expires here."""
        return 0

    async def check_same(self, plan: Plan, partition: int) -> None:
        """See `Source.check_same`: a folder is of one log."""

    def _files(self, span: Span) -> Iterator[Path]:
        for part in self._sheet.parts:
            if part.partition == span.partition and part.start < span.stop > span.start:
                file = self._folder.file_of(part, self._sheet)
                if part.stop > span.start and file.exists():
                    yield file

    def _unexported(self, wanted: Wanted, unknown: Sequence[int]) -> Iterator[Missing]:
        held = self._sheet.plan.wanted
        devices = set(wanted.devices) <= set(held.devices) and wanted.devices
        asks_more = [
            what
            for what, more in (
                ("devices", bool(held.devices) and not devices),
                ("predictions", held.prediction not in (None, wanted.prediction)),
                ("times", held.is_timed and not _within(wanted, held)),
                ("offsets", held.offsets is not None and not _among(wanted, held.offsets)),
            )
            if more
        ]
        if asks_more:
            yield Missing(
                why="unexported",
                line=f"the export of {self.topic} holds only the {' and '.join(asks_more)} that it "
                f"was made for: others are not in it",
            )
        for partition in unknown:
            yield Missing(
                why="unexported",
                partition=partition,
                line=f"the export of {self.topic} has nothing of partition {partition}",
            )


def _within(wanted: Wanted, held: Wanted) -> bool:
    """Whether every time that is wanted was exported."""
    starts = held.start_ms is None or (
        wanted.start_ms is not None and wanted.start_ms >= held.start_ms
    )
    stops = held.stop_ms is None or (wanted.stop_ms is not None and wanted.stop_ms <= held.stop_ms)
    return held.by == wanted.by and starts and stops


def _among(wanted: Wanted, held: dict[int, _Edge]) -> bool:
    """Whether every offset that is wanted was exported."""
    return wanted.offsets is not None and all(
        partition in held and _inside(span, held[partition])
        for partition, span in wanted.offsets.items()
    )


def _inside(span: _Edge, held: _Edge) -> bool:
    (first, last), (begin, end) = span, held
    return (begin or 0) <= (first or 0) and (end is None or (last is not None and last <= end))


def _raw_names(sheet: Sheet) -> tuple[str, ...]:
    """The last columns of a table with records: key, value, headers."""
    return tuple(sheet.arrow_schema.names[-len(RAW) :])


def _with_raw(facts: Facts, *, raw: bool) -> Facts:
    return msgspec.structs.replace(facts, raw=raw)
