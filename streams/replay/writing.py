"""A part of a table as one file, whose bytes depend on its rows and on nothing else."""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson

from headrace.streams.arrow import arrow

Format = Literal["parquet", "arrow", "csv"]

GROUP_ROWS, GROUP_BYTES = 1 << 16, 64 << 20
"""Rows of one row group, and bytes of the records in it where those are in the table."""


class Groups:
    """Rows cut into groups by their number and their bytes, however they arrive.

    Args:
        sized: Column whose bytes count; None where none does.
    """

    def __init__(self, sized: str | None) -> None:
        self._sized = sized
        self._held: list[Any] = []
        self._rows = self._bytes = 0

    def add(self, batch: Any) -> Iterator[Any]:
        """Take rows in; yield each group that is whole, as a table of one chunk."""
        at, count = 0, batch.num_rows
        sizes = self._sizes(batch)
        while at < count:
            room = min(GROUP_ROWS - self._rows, count - at)
            if sizes is not None:
                totals = np.cumsum(sizes[at : at + room])
                fits = int(np.searchsorted(totals, GROUP_BYTES - self._bytes, "right"))
                room = fits if fits or self._rows else 1
                self._bytes += int(totals[room - 1]) if room else 0
            if room:
                self._held.append(batch.slice(at, room))
                self._rows += room
                at += room
            if self._rows >= GROUP_ROWS or at < count:
                yield self.rest()

    def rest(self) -> Any:
        """The rows that are held, as a table of one chunk; None for none."""
        held, self._held = self._held, []
        self._rows = self._bytes = 0
        return arrow().Table.from_batches(held).combine_chunks() if held else None

    def _sizes(self, batch: Any) -> Any:
        if self._sized is None:
            return None
        lengths = arrow("compute").binary_length(batch[self._sized]).fill_null(0)
        return lengths.to_numpy(zero_copy_only=False)


class PartFile:
    """Writes one file beside its name, and gives it its name when it is whole.

    Args:
        file: Its name; a file that is there is replaced.
        schema: Of the table.
        form: File format.
        labels: Columns of few values.
    """

    def __init__(self, file: Path, schema: Any, form: Format, labels: tuple[str, ...]) -> None:
        self._file = file
        self._groups = Groups("value" if "value" in schema.names and _is_raw(schema) else None)
        # Workers on several machines may share the folder: a process id would not do.
        self._beside = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
        file.parent.mkdir(parents=True, exist_ok=True)
        self._out = self._beside.open("wb")
        self._writer = _writer(self._out, schema, form, labels)
        self.rows = 0

    def write(self, batch: Any) -> None:
        """Add rows."""
        for group in self._groups.add(batch):
            self._put(group)

    def close(self) -> list[Path]:
        """Write the rest, and give the file its name; the files there are now."""
        self._put(self._groups.rest())
        self._writer.close()
        self._out.close()
        self._beside.rename(self._file)
        return [self._file]

    def drop(self) -> None:
        """Leave nothing."""
        # Left open, the writer would want to end its file when it is collected.
        with contextlib.suppress(OSError, arrow("lib").ArrowException):
            self._writer.close()
        self._out.close()
        self._beside.unlink(missing_ok=True)

    def _put(self, group: Any) -> None:
        if group is not None:
            self.rows += group.num_rows
            self._writer.put(group)


def _is_raw(schema: Any) -> bool:
    return bool(arrow().types.is_binary(schema.field("value").type))


class _Parquet:
    """Row groups of zstd pages; columns of few values as dictionaries."""

    def __init__(self, out: Any, schema: Any, labels: tuple[str, ...]) -> None:
        self._writer = arrow("parquet").ParquetWriter(
            out,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=["partition", *labels],
        )

    def put(self, table: Any) -> None:
        self._writer.write_table(table, row_group_size=max(table.num_rows, 1))

    def close(self) -> None:
        self._writer.close()


class _Arrow:
    """An Arrow IPC file, one record batch a group, uncompressed: it can be mapped as it is."""

    def __init__(self, out: Any, schema: Any) -> None:
        self._writer = arrow("ipc").new_file(out, schema)

    def put(self, table: Any) -> None:
        # Copied, so that no bit behind the last row, which is written too, is a neighbour's.
        rows = arrow().array(np.arange(table.num_rows))
        self._writer.write_table(table.take(rows).combine_chunks())

    def close(self) -> None:
        self._writer.close()


class _Csv:
    """RFC 4180 with a header; bytes are base64, and what is nested is JSON."""

    def __init__(self, out: Any, schema: Any) -> None:
        pa = arrow()
        fields = [
            (field.name, pa.string() if _needs_text(pa, field.type) else field.type)
            for field in schema
        ]
        self._schema = pa.schema(fields)
        self._writer = arrow("csv").CSVWriter(out, self._schema)

    def put(self, table: Any) -> None:
        pa = arrow()
        columns = [
            pa.chunked_array([[_text(v) for v in table[field.name].to_pylist()]], pa.string())
            if _needs_text(pa, table.schema.field(field.name).type)
            else table[field.name]
            for field in self._schema
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def _needs_text(pa: Any, kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_nested(kind))


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return orjson.dumps(value, default=_text).decode()


def _writer(out: Any, schema: Any, form: Format, labels: tuple[str, ...]) -> Any:
    if form == "parquet":
        return _Parquet(out, schema, labels)
    return _Arrow(out, schema) if form == "arrow" else _Csv(out, schema)
