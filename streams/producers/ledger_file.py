"""The fleet's ledger: every event and what must become of it, in a file beside the run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.schemas.errors import SettingsError
from headrace.streams.producers.chance import F64, I64
from headrace.streams.producers.event_text import texts
from headrace.streams.producers.fleet import Block
from headrace.streams.producers.plan import EXPECTED, KINDS, OUTCOMES
from headrace.streams.producers.signals import ANOMALIES

FORMAT = 1
READ_ROWS = 20_000
FACTS = "headrace.ledger"
TYPES = {
    "number": "int64", "id": "string", "device": "string", "key": "string", "partition": "int16",
    "seq": "int64", "read_ms": "int64", "time_ms": "int64", "intended_ms": "double",
    "kind": "label", "anomaly": "label", "expected": "label",
}  # fmt: skip
"""The ledger's columns. `intended_ms` is when the event was to be sent."""

_EXPECTED = np.array(EXPECTED, np.int8)


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a ledger is about.

    Attributes:
        ledger: Version of the form.
        run: Begins every event id, and stands in every raw and personal field.
        pipeline: Name of the pipeline.
        topic: Where the events were sent.
        partitions: Of the topic.
        start_ms: When the run began, milliseconds since 1970.
        plan: What was asked for.
    """

    ledger: int = FORMAT
    run: str
    pipeline: str
    topic: str
    partitions: int
    start_ms: int
    plan: dict[str, int | float | str]


@dataclass(frozen=True, slots=True)
class Entries:
    """Some rows of a ledger, as columns: see `TYPES`."""

    number: I64
    partition: I64
    intended_ms: F64
    kind: NDArray[np.int8]
    anomaly: NDArray[np.int8]


class LedgerWriter(Protocol):
    """Writes the rows of blocks."""

    def write(self, block: Block) -> None:
        """Add a block's rows."""

    def close(self) -> None:
        """Write the rest."""


def write_ledger(file: Path, header: Header) -> LedgerWriter:
    """A writer by the file's name: ``.parquet`` (needs the `tables` extra), else NDJSON.

    Raises:
        SettingsError: the file cannot be written. MissingExtraError. Both fatal.
    """
    if file.suffix == ".parquet":
        return _ParquetLedger(file, header)
    return _LinesLedger(file, header)


class _LinesLedger:
    """One JSON object a row, after one that is the header."""

    _FORM = (
        b'{"number":%%b,"id":"%b-%%b","device":"%%b","key":"%%b","partition":%%d,"seq":%%b,'
        b'"read_ms":%%b,"time_ms":%%b,"intended_ms":%%b,"kind":"%%b","anomaly":"%%b",'
        b'"expected":"%%b"}\n'
    )

    def __init__(self, file: Path, header: Header) -> None:
        try:
            self._file = file.open("wb")
        except OSError as error:
            raise SettingsError(
                f"writing {str(file)!r} failed: {error.strerror}; name a file in a folder that "
                "can be written"
            ) from error
        self._file.write(msgspec.json.encode(header) + b"\n")
        self._form = self._FORM % header.run.encode()

    def write(self, block: Block) -> None:
        rows, form = block.rows, self._form
        kinds, anomalies, outcomes = (
            [name.encode() for name in names] for names in (KINDS, ANOMALIES, OUTCOMES)
        )
        kind, number = rows.kind.tolist(), texts(rows.number)
        columns = [
            number, number, block.keys, block.keys, block.partitions.tolist(), texts(rows.seq),
            texts(rows.read_ms), texts(rows.time_ms), texts(np.round(rows.send_ms, 3)),
            [kinds[k] for k in kind], [anomalies[a] for a in rows.anomaly.tolist()],
            [outcomes[EXPECTED[k]] for k in kind],
        ]  # fmt: skip
        self._file.writelines(form % row for row in zip(*columns, strict=True))

    def close(self) -> None:
        self._file.close()


class _ParquetLedger:
    """The same columns, labels as dictionaries."""

    def __init__(self, file: Path, header: Header) -> None:
        # Needs pyarrow, which NDJSON does not.
        from headrace.streams.producers.tables import TableWriter

        self._run = header.run
        self._table = TableWriter(file, TYPES, {FACTS: msgspec.json.encode(header).decode()})

    def write(self, block: Block) -> None:
        rows = block.rows
        keys = [key.decode() for key in block.keys]
        self._table.write({
            "number": rows.number, "id": [f"{self._run}-{n}" for n in rows.number.tolist()],
            "device": keys, "key": keys, "partition": block.partitions,
            "seq": rows.seq, "read_ms": rows.read_ms, "time_ms": rows.time_ms,
            "intended_ms": np.round(rows.send_ms, 3), "kind": (rows.kind, KINDS),
            "anomaly": (rows.anomaly, ANOMALIES), "expected": (_EXPECTED[rows.kind], OUTCOMES),
        })  # fmt: skip

    def close(self) -> None:
        self._table.close()


class _Line(msgspec.Struct, gc=False):
    number: int
    partition: int
    intended_ms: float
    kind: str
    anomaly: str


class LedgerReader:
    """Reads a ledger in batches, never whole.

    Args:
        file: As `write_ledger` wrote it.

    Attributes:
        header: What it is about.

    Raises:
        SettingsError: it is no ledger. MissingExtraError. Both fatal.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.header = self._header()

    def __iter__(self) -> Iterator[Entries]:
        if self._file.suffix == ".parquet":
            yield from self._from_table()
        else:
            yield from self._from_lines()

    def _header(self) -> Header:
        try:
            if self._file.suffix == ".parquet":
                from headrace.streams.producers.tables import TableReader

                table = TableReader(self._file)
                text = table.facts.get(FACTS, "").encode()
                table.close()
            else:
                with self._file.open("rb") as lines:
                    text = lines.readline()
            return msgspec.json.decode(text, type=Header)
        except (OSError, msgspec.DecodeError) as error:
            raise SettingsError(
                f"reading {str(self._file)!r} found no ledger; name the file that "
                "`headrace produce fleet --ledger` wrote"
            ) from error

    def _from_lines(self) -> Iterator[Entries]:
        decoder = msgspec.json.Decoder(_Line)
        with self._file.open("rb") as lines:
            lines.readline()
            while held := lines.readlines(READ_ROWS * 200):
                yield _entries(decoder.decode_lines(b"".join(held)))

    def _from_table(self) -> Iterator[Entries]:
        from headrace.streams.producers.tables import TableReader

        table = TableReader(self._file)
        for columns in table.batches(READ_ROWS, list(_Line.__struct_fields__)):
            rows = zip(*(columns[name] for name in _Line.__struct_fields__), strict=True)
            yield _entries([_Line(*row) for row in rows])
        table.close()


def _entries(rows: list[_Line]) -> Entries:
    kinds = {name: number for number, name in enumerate(KINDS)}
    anomalies = {name: number for number, name in enumerate(ANOMALIES)}
    return Entries(
        np.array([row.number for row in rows], np.int64),
        np.array([row.partition for row in rows], np.int64),
        np.array([row.intended_ms for row in rows]),
        np.array([kinds[row.kind] for row in rows], np.int8),
        np.array([anomalies[row.anomaly] for row in rows], np.int8),
    )
