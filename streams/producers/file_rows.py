"""The rows of a file as events: NDJSON, CSV or Parquet, read as they go and never whole."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

from headrace.schemas.errors import SettingsError
from headrace.schemas.input import Input
from headrace.streams.producers.file_columns import Columns, NoEventError
from headrace.streams.producers.file_facts import Facts, Row

READ_ROWS = 1_000


class Rows(Protocol):
    """A file that is read row by row."""

    total: int
    """Where the last row ends, as far as is known: bytes, or rows in a Parquet file."""
    facts: Facts
    """Finds device and time in its events."""

    def read(self, begin: int = 0, number: int = 0) -> Iterator[Row]:
        """Every row from a place on, which `Row.end` and `Row.number` of the one before give."""

    def close(self) -> None:
        """Close the file."""


def open_rows(file: Path, spec: Input, time_field: str | None = None) -> Rows:
    """A file's rows, by its name: ``.csv``, ``.parquet``, else NDJSON.

    Args:
        file: The file.
        spec: The pipeline's input.
        time_field: Path or column of the time; None is the input's own.

    Raises:
        SettingsError: it cannot be opened. MissingExtraError: Parquet needs `tables`. Both fatal.
    """
    if file.suffix not in (".csv", ".parquet"):
        return LineRows(_opened(file), Facts(spec, time_field or spec.time))
    # A table's time is put where the input has it.
    facts, columns = Facts(spec, spec.time), Columns(spec, time_field)
    if file.suffix == ".csv":
        return CsvRows(_opened(file), facts, columns)
    return TableRows(file, facts, columns)


def _opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise SettingsError(
            f"opening {str(file)!r} failed: {error.strerror}; name a file of one JSON object "
            "per line, a .csv with a line of column names, or a .parquet"
        ) from error


class _File:
    """A file that closes itself."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.total = file.seek(0, 2)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class LineRows(_File):
    """Newline-delimited JSON, each line's bytes unchanged; blank lines are no rows.

    A last line without its newline is a row: who resumes where a file still grows may cut one.
    """

    def __init__(self, file: BinaryIO, facts: Facts) -> None:
        super().__init__(file)
        self.facts = facts

    def read(self, begin: int = 0, number: int = 0) -> Iterator[Row]:
        """See `Rows.read`."""
        self._file.seek(begin)
        row = self.facts.row
        for line in self._file:
            begin += len(line)
            number += 1
            value = line.strip()
            if value:
                yield row(number, begin, value)


class CsvRows(_File):
    """CSV in UTF-8 whose first line names the columns; a quoted field may hold line ends."""

    def __init__(self, file: BinaryIO, facts: Facts, columns: Columns) -> None:
        super().__init__(file)
        self.facts, self._columns = facts, columns

    def read(self, begin: int = 0, number: int = 0) -> Iterator[Row]:
        """See `Rows.read`."""
        lines = _Lines(self._file, 0)
        names = next(csv.reader(lines), None)
        if not names:
            return
        paths = self._columns.paths([name.strip() for name in names])
        if begin > lines.end:
            lines = _Lines(self._file, begin)
            lines.number = number
        rows = csv.reader(lines)
        while True:
            try:
                values = next(rows)
            except StopIteration:
                return
            except csv.Error:
                yield Row(lines.number, lines.end, b"", fault="is no CSV")
                continue
            if values:
                yield self._row(lines, paths, values)

    def _row(self, lines: _Lines, paths: list[list[str]], values: list[str]) -> Row:
        if len(values) != len(paths):
            fault = f"has {len(values)} fields, expected {len(paths)}"
            return Row(lines.number, lines.end, b"", fault=fault)
        try:
            value = self._columns.event(paths, values)
        except NoEventError as error:
            return Row(lines.number, lines.end, b"", fault=str(error))
        return self.facts.row(lines.number, lines.end, value)


class _Lines:
    """The lines of a file as text, and how far they were read."""

    def __init__(self, file: BinaryIO, begin: int) -> None:
        file.seek(begin)
        self._lines = iter(file)
        self.end, self.number = begin, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        first = self.end == 0
        self.end += len(line)
        self.number += 1
        # A file written by a spreadsheet begins with a mark that belongs to no column.
        return line.decode("utf-8-sig" if first else "utf-8", errors="replace")


class TableRows:
    """A Parquet file; needs the `tables` extra."""

    def __init__(self, file: Path, facts: Facts, columns: Columns) -> None:
        # Needs pyarrow, which the others do not.
        from headrace.streams.producers.tables import TableReader

        self._table, self.facts, self._columns = TableReader(file), facts, columns
        self.total = self._table.rows

    def read(self, begin: int = 0, number: int = 0) -> Iterator[Row]:
        """See `Rows.read`; what lies before `begin` is read and thrown away."""
        seen = 0
        for batch in self._table.batches(READ_ROWS):
            names = list(batch)
            paths = self._columns.paths(names)
            for values in zip(*batch.values(), strict=True):
                seen += 1
                if seen > begin:
                    yield self._row(seen, paths, values)

    def close(self) -> None:
        """Close the file."""
        self._table.close()

    def _row(self, number: int, paths: list[list[str]], values: Sequence[Any]) -> Row:
        try:
            return self.facts.row(number, number, self._columns.event(paths, values))
        except NoEventError as error:
            return Row(number, number, b"", fault=str(error))
