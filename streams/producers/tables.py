"""Parquet files as columns, by the `tables` extra."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.schemas.errors import SettingsError
from headrace.streams.arrow import arrow

ROW_GROUP = 100_000


def _arrow() -> tuple[Any, Any]:
    """`pyarrow` and `pyarrow.parquet`.

    Raises:
        MissingExtraError: they are not installed. Fatal.
    """
    needed_for = "Parquet files"
    return arrow(needed_for=needed_for), arrow("parquet", needed_for=needed_for)


class TableWriter:
    """Writes columns to a Parquet file, a row group at a time.

    Args:
        file: Made anew.
        types: Column name to Arrow type name; ``label`` is text of few values.
        facts: Text kept beside the columns.

    Raises:
        SettingsError: the file cannot be written. MissingExtraError. Both fatal.
    """

    def __init__(self, file: Path, types: Mapping[str, str], facts: Mapping[str, str]) -> None:
        self._pa, pq = _arrow()
        pa = self._pa
        label = pa.dictionary(pa.int8(), pa.string())
        fields = [
            (name, label if kind == "label" else pa.type_for_alias(kind))
            for name, kind in types.items()
        ]
        self._schema = pa.schema(fields).with_metadata(dict(facts))
        self._held: list[Any] = []
        self._rows = 0
        try:
            self._writer = pq.ParquetWriter(str(file), self._schema, compression="zstd")
        except OSError as error:
            raise SettingsError(
                f"writing {str(file)!r} failed: {error.strerror}; name a file in a folder that "
                "can be written"
            ) from error

    def write(self, columns: Mapping[str, Any]) -> None:
        """Add rows; a column of labels is a pair of indexes and texts."""
        pa = self._pa
        arrays = [
            pa.DictionaryArray.from_arrays(*columns[field.name])
            if pa.types.is_dictionary(field.type)
            else pa.array(columns[field.name], field.type)
            for field in self._schema
        ]
        batch = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        self._held.append(batch)
        self._rows += batch.num_rows
        if self._rows >= ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """Write the rest, and the file's end."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._held:
            self._writer.write_table(
                self._pa.Table.from_batches(self._held), row_group_size=ROW_GROUP
            )
        self._held, self._rows = [], 0


class TableReader:
    """Reads a Parquet file in batches of rows.

    Args:
        file: The file.

    Raises:
        SettingsError: it cannot be opened or is none. MissingExtraError. Both fatal.
    """

    def __init__(self, file: Path) -> None:
        pa, pq = _arrow()
        try:
            self._file = pq.ParquetFile(str(file))
        except (OSError, pa.ArrowInvalid) as error:
            raise SettingsError(
                f"opening {str(file)!r} as Parquet failed; name a whole Parquet file"
            ) from error

    @property
    def rows(self) -> int:
        """How many there are."""
        return int(self._file.metadata.num_rows)

    @property
    def facts(self) -> dict[str, str]:
        """Text kept beside the columns."""
        found = self._file.schema_arrow.metadata or {}
        return {name.decode(): text.decode() for name, text in found.items()}

    def batches(self, rows: int, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Columns by name, each a list, of at most so many rows."""
        for batch in self._file.iter_batches(batch_size=rows, columns=columns):
            yield batch.to_pydict()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
