"""The folder of an export: what it is of, its parts, and which of them are done.

    _replay.json            what is exported, from where to where: written before anything else
    p00003/000000000262144.parquet    a part: rows of one partition from that offset on
    day=2026-05-01/p00003-000000000262144.parquet    its rows of one day, where days are asked for
    .parts/p00003-000000000262144.json   its mark: written once it has its name
    _report.json            the totals, and what is missing: written last

A part is written beside its name and renamed, its mark after it. So whoever is killed, a part with
a mark is whole, one without is made again, and both have the same bytes. Whether the disk kept what
was written, as after a loss of power, the digest in the mark tells when a replay goes on. Several
workers may share a folder: they agree on the first `_replay.json`, and any may make any part.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from headrace.schemas.errors import SettingsError
from headrace.streams.arrow import arrow
from headrace.streams.replay.forms import Facts, unique
from headrace.streams.replay.ranges import Missing, Plan, Span
from headrace.streams.replay.writing import Format

PART_OFFSETS = 1 << 18
"""Offsets of one part: a second's work, of which an interrupted worker loses one."""

UNREADABLE_NAMED = 20


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """What an export is of.

    Attributes:
        table: What is to be known of the table.
        schema: Its Arrow schema, serialised, base64.
        pipeline: Name and digest of the pipeline; None for plain records.
        plan: Where its rows are.
        format: Of the files.
        part_offsets: Offsets of one part.
        day_of: Time by whose day, UTC, each part is cut into files; None does not cut.
    """

    table: Facts
    schema: str
    pipeline: str | None
    plan: Plan
    format: Format
    part_offsets: int = PART_OFFSETS
    day_of: str | None = None

    @property
    def arrow_schema(self) -> Any:
        """The table's `pyarrow.Schema`."""
        pa = arrow()
        return arrow("ipc").read_schema(pa.BufferReader(base64.b64decode(self.schema)))

    @property
    def parts(self) -> list[Span]:
        """Its parts, in order."""
        return self.plan.parts(self.part_offsets)

    @property
    def day_key(self) -> str:
        """What names the folders of days; readers make a column of it, so no other is called so."""
        return unique([*self.arrow_schema.names, "day"])[-1]

    def alike(self, other: Sheet) -> bool:
        """Whether `other` asks for the same, whatever the log has gained or lost meanwhile."""
        ours, theirs = (
            msgspec.structs.replace(
                sheet, plan=Plan(topic=sheet.plan.topic, wanted=sheet.plan.wanted, spans=())
            )
            for sheet in (self, other)
        )
        return ours == theirs


def digest_of(content: bytes) -> str:
    """BLAKE2b of a file, 32 hex digits."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def schema_text(schema: Any) -> str:
    """An Arrow schema as text."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a part.

    Attributes:
        name: Below the folder.
        bytes: Its size.
        digest: BLAKE2b of it, 32 hex digits.
    """

    name: str
    bytes: int
    digest: str


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one part.

    Attributes:
        span: Its offsets.
        files: Its files; none where no row was asked for in it.
        rows: Rows in them.
        undated: Rows left out for want of an event time to choose them by.
        unreadable: Records that are not what their topic carries: they gave no row.
        named: The first of them.
        missing: What had left the log when it was to be read.
        notes: What else is to be said.
    """

    span: Span
    files: tuple[Made, ...] = ()
    rows: int = 0
    undated: int = 0
    unreadable: int = 0
    named: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()
    notes: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What an export holds, and what it does not; the same for the same rows."""

    topic: str
    role: str
    rows: int
    files: int
    bytes: int
    undated: int
    unreadable: int
    named: tuple[str, ...]
    missing: tuple[Missing, ...]
    notes: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Everything that was asked for is in the table."""
        return not self.missing and not self.unreadable


class Folder:
    """The folder of one export.

    Args:
        path: Made where it is not there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, sheet: Sheet) -> Sheet:
        """Begin an export, or go on with the one that is here; the sheet that holds.

        Raises:
            SettingsError: the folder holds another export, or other files. Fatal.
        """
        held = self.sheet()
        if held is None:
            if self.path.exists() and any(self.path.iterdir()):
                raise SettingsError(
                    f"folder {str(self.path)!r} is not empty and holds no export; name another"
                )
            self._marks().mkdir(parents=True, exist_ok=True)
            self._write_new(self.path / "_replay.json", _json(sheet))
            held = self.sheet() or sheet
        if not held.alike(sheet):
            raise SettingsError(
                f"folder {str(self.path)!r} holds an export of another range, table or format; "
                f"name another folder, or ask for the same again"
            )
        self._marks().mkdir(exist_ok=True)
        return held

    def sheet(self) -> Sheet | None:
        """What the export here is of; None where there is none.

        Raises:
            SettingsError: `_replay.json` is none of ours. Fatal.
        """
        try:
            return msgspec.json.decode((self.path / "_replay.json").read_bytes(), type=Sheet)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise SettingsError(
                f"reading {str(self.path / '_replay.json')!r} failed ({type(error).__name__}); "
                f"name a folder that headrace replay has written"
            ) from error

    def file_of(self, span: Span, sheet: Sheet) -> Path:
        """Where a part's rows go: named by where a whole part begins, wherever the range does."""
        start = span.start // sheet.part_offsets * sheet.part_offsets
        return self.path / f"p{span.partition:05d}" / f"{start:015d}.{sheet.format}"

    def made(self, file: Path) -> Made:
        """What a mark says of a file."""
        content = file.read_bytes()
        name = str(file.relative_to(self.path))
        return Made(name=name, bytes=len(content), digest=digest_of(content))

    def mark(self, mark: Mark) -> None:
        """Say that a part is done; its file has its name."""
        place = self._mark_of(mark.span)
        beside = place.with_name(f".{place.name}.{secrets.token_hex(8)}")
        beside.write_bytes(_json(mark))
        beside.rename(place)

    def done(self, spans: Sequence[Span]) -> dict[Span, Mark]:
        """The marks of those parts that are done."""
        found = {}
        for span in spans:
            try:
                text = self._mark_of(span).read_bytes()
            except FileNotFoundError:
                continue
            found[span] = msgspec.json.decode(text, type=Mark)
        return found

    def sweep(self, spans: Sequence[Span]) -> dict[Span, Mark]:
        """Remove what interrupted workers left; the marks of those parts that are whole.

        Nobody else may be at work here.
        """
        for left in itertools.chain(self.path.glob("p*/.*"), self.path.glob("*=*/.*")):
            left.unlink(missing_ok=True)
        for left in self._marks().glob(".*"):
            left.unlink(missing_ok=True)
        marks = self.done(spans)
        for span in [span for span, mark in marks.items() if not self._is_whole(mark)]:
            self._mark_of(span).unlink()
            del marks[span]
        return marks

    def _is_whole(self, mark: Mark) -> bool:
        try:
            same = all(self.made(self.path / made.name) == made for made in mark.files)
        except FileNotFoundError:
            return False
        # Of rows, but no files: the mark of an older version, which named them otherwise.
        return same and bool(mark.files) == bool(mark.rows)

    def finish(self, sheet: Sheet) -> Report | None:
        """Write the report where every part is done; None where some is not."""
        spans = sheet.parts
        marks = self.done(spans)
        if len(marks) < len(spans):
            return None
        report = total(sheet, [marks[span] for span in spans])
        beside = self.path / f"._report.json.{secrets.token_hex(8)}"
        beside.write_bytes(_json(report))
        beside.rename(self.path / "_report.json")
        return report

    def report(self) -> Report | None:
        """The report of an export that is whole; None before."""
        try:
            return msgspec.json.decode((self.path / "_report.json").read_bytes(), type=Report)
        except FileNotFoundError:
            return None

    def check_files(self, sheet: Sheet, report: Report) -> None:
        """Refuse a finished export of which files were lost since.

        Raises:
            SettingsError: fatal.
        """
        if sheet.day_of is not None:
            found = sum(1 for _ in self.path.glob(f"{sheet.day_key}=*/*.{sheet.format}"))
        else:
            found = sum(self.file_of(part, sheet).is_file() for part in sheet.parts)
        if found < report.files:
            raise SettingsError(
                f"the export of {report.topic} in {str(self.path)!r} has {found} of its "
                f"{report.files} files; run the headrace replay that made it again"
            )

    def _marks(self) -> Path:
        return self.path / ".parts"

    def _mark_of(self, span: Span) -> Path:
        return self._marks() / f"p{span.partition:05d}-{span.start:015d}.json"

    def _write_new(self, place: Path, content: bytes) -> None:
        """Write a file unless somebody else was first."""
        beside = place.with_name(f".{place.name}.{secrets.token_hex(8)}")
        beside.write_bytes(content)
        try:
            os.link(beside, place)
        except FileExistsError:
            pass
        finally:
            beside.unlink()


def total(sheet: Sheet, marks: Sequence[Mark]) -> Report:
    """The report of an export from the marks of all its parts."""
    missing = [*sheet.plan.missing, *(m for mark in marks for m in mark.missing)]
    named = [name for mark in marks for name in mark.named]
    return Report(
        topic=sheet.plan.topic,
        role=sheet.table.role,
        rows=sum(mark.rows for mark in marks),
        files=sum(len(mark.files) for mark in marks),
        bytes=sum(made.bytes for mark in marks for made in mark.files),
        undated=sum(mark.undated for mark in marks),
        unreadable=sum(mark.unreadable for mark in marks),
        named=tuple(named[:UNREADABLE_NAMED]),
        missing=tuple(missing),
        notes=tuple(dict.fromkeys(note for mark in marks for note in mark.notes)),
    )


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"
