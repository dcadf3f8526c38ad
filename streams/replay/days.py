"""A part's rows in files by day, as Hive lays out folders: ``day=2026-05-01/p00003-….parquet``.

A part is first written whole, as it comes, and then cut: so few rows are in memory and one file is
open however many days its clocks tell. Rows of a day stay in the order of the log.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from headrace.schemas.batch import I64
from headrace.streams.arrow import arrow
from headrace.streams.replay.writing import PartFile

UNDATED = "__HIVE_DEFAULT_PARTITION__"
"""Where readers of such folders look for rows whose day is null."""

_DAY_MS = 86_400_000
_NO_DAY = np.iinfo(np.int64).min


class DayFiles:
    """Writes the rows of one part into a file for each day (as `PartFile`, Parquet only).

    Args:
        folder: Of the export.
        key: Name of the folders before the sign of equality.
        name: Of the part's file in each of them.
        column: Time whose day counts, UTC.
        schema: Of the table.
        labels: Columns of few values.
    """

    def __init__(
        self, folder: Path, key: str, name: str, column: str, schema: Any, labels: tuple[str, ...]
    ) -> None:
        self._folder, self._key, self._name, self._column = folder, key, name, column
        self._schema, self._labels = schema, labels
        # Of its own: another worker may be at the same part.
        self._whole = folder / ".parts" / f".{name}.{secrets.token_hex(8)}.whole"
        self._out = PartFile(self._whole, schema, "parquet", labels)

    @property
    def rows(self) -> int:
        """Rows written."""
        return self._out.rows

    def write(self, batch: Any) -> None:
        """Add rows."""
        self._out.write(batch)

    def close(self) -> list[Path]:
        """Cut them into days; the files, by day."""
        self._out.close()
        try:
            with arrow("parquet").ParquetFile(str(self._whole)) as whole:
                files = [self._put(whole, day, groups) for day, groups in self._days(whole)]
        finally:
            self._whole.unlink()
        # Rows that were there when the part was begun before may have left the log since.
        for file in set(self._folder.glob(f"{self._key}=*/{self._name}")) - set(files):
            file.unlink(missing_ok=True)
        return files

    def drop(self) -> None:
        """Leave nothing but whole files."""
        self._out.drop()

    def _days(self, whole: Any) -> Iterator[tuple[int, list[int]]]:
        """Each day in order, and the row groups that have rows of it."""
        found: dict[int, list[int]] = {}
        for group in range(whole.num_row_groups):
            times = whole.read_row_group(group, columns=[self._column])[self._column]
            for day in np.unique(days_of(times)).tolist():
                found.setdefault(day, []).append(group)
        return iter(sorted(found.items()))

    def _put(self, whole: Any, day: int, groups: list[int]) -> Path:
        text = UNDATED if day == _NO_DAY else str(np.datetime64(day, "D"))
        file = self._folder / f"{self._key}={text}" / self._name
        out = PartFile(file, self._schema, "parquet", self._labels)
        try:
            for group in groups:
                table = whole.read_row_group(group)
                mine = arrow().array(days_of(table[self._column]) == day)
                for batch in table.filter(mine).combine_chunks().to_batches():
                    # A file's own schema numbers its fields, which ours does not.
                    rows = arrow().RecordBatch.from_arrays(batch.columns, schema=self._schema)
                    out.write(rows)
            out.close()
        except BaseException:
            out.drop()
            raise
        return file


def days_of(times: Any) -> I64:
    """Days since 1970 of an Arrow column of milliseconds, int64 (N,); of nulls the smallest."""
    numbers = times.cast("int64").fill_null(_NO_DAY).to_numpy()
    return np.where(numbers == _NO_DAY, _NO_DAY, numbers // _DAY_MS)
