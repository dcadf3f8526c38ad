"""Moments of many groups at once, the same bits however the rows are cut into batches."""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import F64, I64
from headrace.schemas.summary import Moments

_LARGEST = sys.float_info.max
_CELL = struct.Struct("<q5d")


@dataclass(slots=True)
class Running:
    """Running moments of C quantities.

    Sums are of the distance from each quantity's first value: this keeps the digits that a plain
    sum of squares loses, and unlike a running mean it can be folded by `bincount`, which adds one
    row after another.

    Attributes:
        count: int64 (C,), values seen.
        first: float64 (C,), the first value; 0 before it.
        sum: float64 (C,), sum of ``value - first``.
        squares: float64 (C,), sum of ``(value - first) ** 2``.
        min: float64 (C,), infinity before the first value.
        max: float64 (C,), minus infinity before it.

    Source: shifted data, Chan, Golub, LeVeque, "Algorithms for computing the sample variance"
        (1983).
    """

    count: I64
    first: F64
    sum: F64
    squares: F64
    min: F64
    max: F64

    @classmethod
    def empty(cls, size: int) -> Running:
        """Moments of nothing."""
        zero = np.zeros(size)
        infinite = np.full(size, np.inf)
        return cls(np.zeros(size, np.int64), zero, zero.copy(), zero.copy(), infinite, -infinite)

    def folded(self, place: NDArray[np.intp], values: F64) -> Running:
        """These moments and `values`, each into its place; this object stays as it is.

        Args:
            place: (N,), which of the C quantities a value belongs to.
            values: float64 (N,); those that are not finite are passed over.

        Returns:
            The same bits as folding the rows one after another, in whatever batches.
        """
        finite = np.isfinite(values)
        if not finite.all():
            place, values = place[finite], values[finite]
        values = values + 0.0  # minus zero and zero are one value
        size = len(self.count)
        first = np.zeros(size)
        # Of repeated places the last assignment stays: the first row's, seen from behind.
        first[place[::-1]] = values[::-1]
        first = np.where(self.count > 0, self.first, first)
        with np.errstate(over="ignore"):
            off = values - first[place]
            squares = off * off
        low, high = self.min.copy(), self.max.copy()
        np.minimum.at(low, place, values)
        np.maximum.at(high, place, values)
        carried = np.concatenate([np.arange(size), place])
        return Running(
            self.count + np.bincount(place, minlength=size),
            first,
            _added(carried, np.concatenate([self.sum, off])),
            _added(carried, np.concatenate([self.squares, squares])),
            low,
            high,
        )

    def encode(self) -> bytes:
        """48 bytes for each quantity."""
        columns = (self.count, self.first, self.sum, self.squares, self.min, self.max)
        lists = [column.tolist() for column in columns]
        return b"".join(_CELL.pack(*row) for row in zip(*lists, strict=True))

    @classmethod
    def decode(cls, value: bytes) -> Running:
        """What `encode` gave."""
        rows = list(_CELL.iter_unpack(value))
        count = np.array([row[0] for row in rows], np.int64)
        rest = np.array([row[1:] for row in rows]).reshape(-1, 5).T.copy()
        return cls(count, *rest)

    def moments(self) -> list[Moments]:
        """Each quantity's moments, every number finite."""
        return [self._one(k) for k in range(len(self.count))]

    def _one(self, k: int) -> Moments:
        count = int(self.count[k])
        if not count:
            return Moments(0, 0.0, 0.0, None, None)
        total, squares = float(self.sum[k]), float(self.squares[k])
        return Moments(
            count,
            _finite(float(self.first[k]) + total / count),
            max(0.0, _finite(squares - total / count * total)),
            float(self.min[k]),
            float(self.max[k]),
        )


def _added(place: NDArray[np.intp], values: F64) -> F64:
    """Sums by place, one value after another."""
    return np.bincount(place, values).astype(np.float64, copy=False)


def _finite(value: float) -> float:
    """What overflowed, as the largest number there is."""
    if value != value:
        return _LARGEST
    return min(max(value, -_LARGEST), _LARGEST)


def merge_moments(a: Moments, b: Moments) -> Moments:
    """Moments of both.

    Counts and extremes are exact; mean and m2 do not depend on the order of merging but for
    rounding, a few parts in 1e15 of the largest magnitude for each merge.

    Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample
        variances" (1979).

    Example:
        >>> merge_moments(Moments(1, 1.0, 0.0, 1.0, 1.0), Moments(1, 3.0, 0.0, 3.0, 3.0))
        Moments(count=2, mean=2.0, m2=2.0, min=1.0, max=3.0)
    """
    if not a.count or not b.count:
        return a if a.count else b
    count = a.count + b.count
    off = b.mean - a.mean
    mean = (a.mean * a.count + b.mean * b.count) / count
    m2 = a.m2 + b.m2 + off * off * a.count * b.count / count
    low = min(x for x in (a.min, b.min) if x is not None)
    high = max(x for x in (a.max, b.max) if x is not None)
    return Moments(count, _finite(mean), _finite(m2), low, high)
