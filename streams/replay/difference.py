"""Where two tables of the same events differ: to the bit, with place, column and both values."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import F64, I64

MOST_SHOWN = 20
"""Differences that are kept whole; all of them are counted."""

F32 = NDArray[np.float32]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One value that is another one now.

    Attributes:
        source: Telemetry record behind it, ``topic[partition]@offset``.
        stage: ``features`` or ``predictions``.
        column: Feature, metric or field of the prediction.
        recorded: What was served, as text.
        computed: What comes out now, as text.
        bits: How many bits of the number differ; 0 where it is none.
    """

    source: str
    stage: str
    column: str
    recorded: str
    computed: str
    bits: int = 0


class Differences(msgspec.Struct, kw_only=True):
    """Counted, and the first of them shown.

    Attributes:
        values: Values that differ.
        bits: Bits of numbers that differ.
        rows: Events with at least one.
        columns: Differing values by column.
        first: The first of them, in log order within each stage.
    """

    values: int = 0
    bits: int = 0
    rows: int = 0
    columns: dict[str, int] = msgspec.field(default_factory=dict)
    first: list[Difference] = msgspec.field(default_factory=list)

    def add(self, found: Sequence[Difference]) -> None:
        """Note the differences of some rows."""
        self.values += len(found)
        self.bits += sum(one.bits for one in found)
        self.rows += len({one.source for one in found})
        for one in found:
            self.columns[one.column] = self.columns.get(one.column, 0) + 1
        self.first += found[: max(0, MOST_SHOWN - len(self.first))]


def differing_bits(recorded: F64 | F32, computed: F64 | F32) -> NDArray[np.uint8]:
    """Bits in which two arrays of one float type differ, element by element.

    Every NaN counts as the same: it says that a value is missing.

    Args:
        recorded: Of any shape.
        computed: Of the same shape and type.

    Example:
        >>> differing_bits(np.array([1.0, np.nan]), np.array([np.nextafter(1.0, 2.0), -np.nan]))
        array([1, 0], dtype=uint8)
    """
    words = np.int64 if recorded.dtype.itemsize == 8 else np.int32
    ours, theirs = np.ascontiguousarray(recorded), np.ascontiguousarray(computed)
    bits: NDArray[np.uint8] = np.bitwise_count(ours.view(words) ^ theirs.view(words))
    bits[np.isnan(ours) & np.isnan(theirs)] = 0
    return bits


def numbers_differ(
    names: Sequence[str], recorded: F64, computed: F64, *, topic: str, partition: int, offsets: I64
) -> list[Difference]:
    """Every feature or metric that is not the same to the bit.

    Args:
        names: C columns.
        recorded: float64 (N, C).
        computed: float64 (N, C), the same events.
        topic: Source topic.
        partition: Source partition.
        offsets: int64 (N,), source offsets.
    """
    bits = differing_bits(recorded, computed)
    return [
        Difference(
            source=f"{topic}[{partition}]@{offsets[row]}",
            stage="features",
            column=names[column],
            recorded=repr(float(recorded[row, column])),
            computed=repr(float(computed[row, column])),
            bits=int(bits[row, column]),
        )
        for row, column in np.argwhere(bits).tolist()
    ]


def texts_differ(
    stage: str,
    column: str,
    recorded: Sequence[object],
    computed: Sequence[object],
    sources: Sequence[str],
) -> list[Difference]:
    """Every value of a column that is not equal."""
    if recorded == computed:
        return []
    return [
        Difference(
            source=source, stage=stage, column=column, recorded=_text(ours), computed=_text(theirs)
        )
        for source, ours, theirs in zip(sources, recorded, computed, strict=True)
        if ours != theirs
    ]


def scores_differ(
    column: str, recorded: Sequence[bytes], computed: Sequence[bytes], sources: Sequence[str]
) -> list[Difference]:
    """As `texts_differ`, of float32 numbers in their shortest JSON: equal text is equal bits."""
    found = texts_differ("predictions", column, recorded, computed, sources)
    return [msgspec.structs.replace(one, bits=_bits(one)) for one in found]


def _bits(one: Difference) -> int:
    try:
        ours, theirs = (np.array([float(t)], np.float32) for t in (one.recorded, one.computed))
    except ValueError:  # a refused one is null
        return 0
    return int(differing_bits(ours, theirs)[0])


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
