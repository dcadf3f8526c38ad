"""A file of newline-delimited JSON as a source of telemetry."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from headrace.schemas.errors import SettingsError
from headrace.streams.producers.produce import Record


class FileSource:
    """Each line of a file is one record, its bytes unchanged, keyed by its entity.

    A line that is no JSON object, or has no text at `entity`, is sent without a key: judging it
    is the pipeline's business, which dead-letters it under a code. Blank lines are skipped.

    Args:
        file: The file; read as it goes, never whole.
        entity: Path of the entity key in a line, dots between the names of nested objects.
        rows: Lines that one `take` gives.

    Raises:
        SettingsError: the file cannot be opened. Fatal.
    """

    live = False

    def __init__(self, file: Path, *, entity: str = "device_id", rows: int = 1000) -> None:
        try:
            self._lines = file.open("rb")
        except OSError as error:
            raise SettingsError(
                f"opening {str(file)!r} failed: {error.strerror}; name a file of one JSON object "
                "per line"
            ) from error
        self._entity = entity.split(".")
        self._rows = rows
        self._decode = msgspec.json.Decoder().decode
        self._records = self._read()

    def take(self) -> list[Record] | None:
        """The next records; None at the end of the file."""
        return list(islice(self._records, self._rows)) or None

    def close(self) -> None:
        """Close the file."""
        self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self) -> Iterator[Record]:
        for line in self._lines:
            value = line.strip()
            if value:
                yield Record(self._key(value), value)

    def _key(self, value: bytes) -> bytes | None:
        try:
            place: Any = self._decode(value)
            for name in self._entity:
                place = place[name]
        except (msgspec.DecodeError, RecursionError, LookupError, TypeError):
            return None
        return place.encode() if isinstance(place, str) else None
