"""Labels: moments of entities that a training set is wanted for, from a CSV file."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from headrace.schemas.batch import I64
from headrace.schemas.errors import SettingsError
from headrace.schemas.strict import nearest


@dataclass(slots=True)
class LabelRows:
    """M moments, in the order of the file.

    Attributes:
        entities: M entities.
        times_ms: int64 (M,), milliseconds since 1970.
        columns: Further columns of the file, as text.
    """

    entities: list[str]
    times_ms: I64
    columns: dict[str, list[str]]

    def __len__(self) -> int:
        return len(self.entities)


def read_labels(file: Path, *, entity: str, time: str) -> LabelRows:
    """The moments of a CSV file whose first line names its columns.

    Args:
        file: The file.
        entity: Column of the entity.
        time: Column of the time: RFC 3339 with its zone, or milliseconds since 1970.

    Raises:
        SettingsError: it cannot be read, lacks a column, or a row is not understood. Fatal.
    """
    try:
        with file.open(newline="", encoding="utf-8") as text:
            return _read(csv.DictReader(text), file, entity, time)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(
            f"reading labels from {str(file)!r} failed: {error}; name a CSV file in UTF-8"
        ) from error


def _read(rows: csv.DictReader[str], file: Path, entity: str, time: str) -> LabelRows:
    names = list(rows.fieldnames or ())
    for name in (entity, time):
        if name not in names:
            raise SettingsError(
                f"labels {str(file)!r} have no column {name!r}{nearest(name, names)}; name it with "
                f"--entity or --time"
            )
    others = [name for name in names if name not in (entity, time)]
    entities, times = [], []
    columns: dict[str, list[str]] = {name: [] for name in others}
    for number, row in enumerate(rows, 2):
        try:
            times.append(_time_ms(row[time] or ""))
        except ValueError:
            raise SettingsError(
                f"line {number} of labels {str(file)!r} has no time, expected one such as "
                f"2026-11-21T10:00:00Z or milliseconds since 1970; correct it"
            ) from None
        entities.append(row[entity] or "")
        for name in others:
            columns[name].append(row[name] or "")
    return LabelRows(entities, np.array(times, np.int64), columns)


def _time_ms(text: str) -> int:
    """Milliseconds since 1970.

    Example:
        >>> _time_ms("1970-01-01T00:00:01Z"), _time_ms("1500")
        (1000, 1500)
    """
    if text.strip().lstrip("-").isdecimal():
        return int(text)
    at = datetime.fromisoformat(text.strip())
    if at.tzinfo is None:
        raise ValueError("no time zone")
    return round(at.timestamp() * 1000)
