"""Quantiles by counts of bins that are as wide as their values are large; merging adds counts.

A bin is named by the first bits of a value's float64: its sign, its exponent and the first six bits
of its mantissa, so 64 bins lie between 1 and 2, and no logarithm is computed that another processor
would round otherwise. Where more than `MAX_BINS` are in use, each two neighbours become one, which
is the next level. The level and the counts hang on the set of values alone: neither the order, nor
how they were cut into batches, partitions and sites changes a bit. A sketch that bounds the rank
instead (KLL) flips coins while it merges, and so cannot promise that.

Source: Epicoco et al., "UDDSketch: accurate tracking of quantiles in data streams" (2020), for
    joining all neighbours at once; Tene, "HdrHistogram", for bins by bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import F64, I64
from headrace.schemas.summary import Quantiles
from headrace.streams.upstream.varints import pack, unpack

MAX_BINS = 512
"""Bins of one quantity at most: about 1 KB, and eight octaves of 64 at the finest level."""

_SHIFT = 46  # of the 52 bits of a mantissa, those that the finest bins disregard
_PLACE = 18  # bits of a bin's name: 11 of the exponent, 6 of the mantissa, the sign
_ZERO = 1 << (_PLACE - 1)  # the bin of zero, so that no name is negative
_NARROW = 1 << (31 - _PLACE)  # quantities whose codes fit 32 bits
_NAME = (1 << _PLACE) - 1


@dataclass(slots=True)
class Bins:
    """Bins of C quantities.

    Attributes:
        levels: int64 (C,), how often each quantity's bins were joined.
        codes: int64 (B,), ascending: quantity and bin.
        counts: int64 (B,), values in each, none 0.
    """

    levels: I64
    codes: I64
    counts: I64

    @classmethod
    def empty(cls, size: int) -> Bins:
        """Bins of nothing."""
        none = np.empty(0, np.int64)
        return cls(np.zeros(size, np.int64), none, none)

    def folded(self, place: NDArray[np.intp], values: F64) -> Bins:
        """These bins and `values`, each into its place; this object stays as it is.

        Args:
            place: (N,), which of the C quantities a value belongs to.
            values: float64 (N,); those that are not finite are passed over.

        Returns:
            The same bits as folding the rows one after another, in whatever batches and order.
        """
        finite = np.isfinite(values)
        if not finite.all():
            place, values = place[finite], values[finite]
        size = np.abs(values).view(np.int64)
        size >>= _SHIFT + self.levels[place] if self.levels.any() else _SHIFT
        np.negative(size, out=size, where=values < 0)
        size += place.astype(np.int64) << _PLACE
        # Half as wide sorts in half the time.
        width = np.int32 if len(self.levels) <= _NARROW else np.int64
        found: NDArray[np.signedinteger[Any]] = (size + _ZERO).astype(width)
        found.sort()
        ends = _ends(found)
        codes, counts = found[ends].astype(np.int64), np.diff(ends, prepend=-1)
        return _joined(self.levels, [self.codes, codes], [self.counts, counts])

    @classmethod
    def stacked(cls, parts: Sequence[Bins]) -> Bins:
        """Bins of all parts' quantities, one after another."""
        sizes = [len(part.levels) for part in parts]
        starts = [sum(sizes[:k]) for k in range(len(parts))]
        return cls(
            np.concatenate([part.levels for part in parts]),
            np.concatenate([p.codes + (s << _PLACE) for p, s in zip(parts, starts, strict=True)]),
            np.concatenate([part.counts for part in parts]),
        )

    def split(self, size: int) -> list[Bins]:
        """Every `size` quantities by themselves: `stacked` undone."""
        starts = np.arange(0, len(self.levels) + 1, size)
        edges = np.searchsorted(self.codes, starts << _PLACE).tolist()
        return [
            Bins(
                self.levels[start : start + size].copy(),
                self.codes[at:to] - (start << _PLACE),
                self.counts[at:to].copy(),
            )
            for start, at, to in zip(starts.tolist(), edges, edges[1:], strict=False)
        ]

    def encode(self) -> bytes:
        """About three bytes for each bin."""
        steps = np.diff(self.codes, prepend=0)
        head = np.array([len(self.levels)])
        return pack(np.concatenate([head, self.levels, steps, self.counts]))

    @classmethod
    def decode(cls, value: bytes) -> Bins:
        """What `encode` gave."""
        numbers = unpack(value)
        size = int(numbers[0])
        levels, rest = numbers[1 : size + 1], numbers[size + 1 :]
        half = len(rest) // 2
        return cls(levels, np.cumsum(rest[:half]), rest[half:])

    def sketches(self) -> list[Quantiles]:
        """Each quantity's, as it travels."""
        return [_sketch(part) for part in self.split(1)]


def read_quantiles(sketch: Quantiles) -> Bins:
    """The bins of one sketch.

    Raises:
        ValueError: its bytes are not what `Bins.sketches` writes, to the letter.
    """
    numbers = unpack(sketch.bins)
    half = len(numbers) // 2
    codes, counts = np.cumsum(numbers[:half]), numbers[half:]
    bins = Bins(np.array([sketch.level]), codes, counts)
    fits = half <= MAX_BINS and len(counts) == half and (numbers[1:half] > 0).all()
    size = np.abs(codes - _ZERO)
    named = (size < (0x7FF << 52) >> (_SHIFT + sketch.level)) | (size == 0)
    if not (fits and named.all() and (counts > 0).all()) or _sketch(bins) != sketch:
        raise ValueError("a quantile sketch is not in its one valid form")
    return bins


def merge_quantiles(a: Quantiles, b: Quantiles) -> Quantiles:
    """The sketch of both, the same bits as if all values had been in one.

    Raises:
        ValueError: one of them is malformed.
    """
    return _sketch(merge_bins(read_quantiles(a), read_quantiles(b)))


def merge_bins(a: Bins, b: Bins) -> Bins:
    """Bins of one quantity together, the same bits as if all values had been in one."""
    level = np.maximum(a.levels, b.levels)
    coarse = [raised(part, int(level[0])) for part in (a, b)]
    return _joined(level, [part.codes for part in coarse], [part.counts for part in coarse])


def relative_error(sketch: Quantiles) -> float:
    """How far a quantile may be off, as a share of its value: 1/128 as long as bins suffice.

    Each joining of neighbours doubles it. Values below 1e-300 are taken for zero.
    """
    return 2.0 ** (sketch.level - 7) if sketch.level <= 6 else 2.0 ** (1 << (sketch.level - 7)) - 1


def quantile(sketch: Quantiles, share: float) -> float | None:
    """The value that this share of the values does not exceed, None where there are none.

    It stands for the value at exactly rank ``max(1, ceil(share * count))`` of the sorted values,
    and is off by at most `relative_error` of that.

    Args:
        sketch: The sketch.
        share: 0 is the least value, 1 the largest.

    Raises:
        ValueError: the sketch is malformed, or `share` is not from 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a quantile is asked for by a share from 0 to 1, not {share}")
    bins = read_quantiles(sketch)
    if not sketch.count:
        return None
    rank = max(1, math.ceil(share * sketch.count))
    at = int(np.searchsorted(np.cumsum(bins.counts), rank))
    return _middle(int(bins.codes[at]) - _ZERO, sketch.level)


def rank(sketch: Quantiles, value: float) -> tuple[int, int]:
    """Bounds of how many values do not exceed a finite `value`: their distance is the rank error.

    Both are exact counts: of the values in lower bins, and of those in its own besides.

    Raises:
        ValueError: the sketch is malformed.
    """
    bins = read_quantiles(sketch)
    empty = Bins(bins.levels, *[np.empty(0, np.int64)] * 2)
    (code,) = empty.folded(np.zeros(1, np.intp), np.array([value])).codes.tolist()
    low, high = (int(np.searchsorted(bins.codes, code, side)) for side in ("left", "right"))
    return int(bins.counts[:low].sum()), int(bins.counts[:high].sum())


def _sketch(bins: Bins) -> Quantiles:
    steps = np.diff(bins.codes, prepend=0)
    value = pack(np.concatenate([steps, bins.counts]))
    return Quantiles(int(bins.levels[0]), int(bins.counts.sum()), value)


def _middle(name: int, level: int) -> float:
    """The value in the middle of a bin, by its bits; zero of the bin that zero is in."""
    if not name:
        return 0.0
    bits = (abs(name) << (_SHIFT + level)) | 1 << (_SHIFT + level - 1)
    return math.copysign(float(np.int64(bits).view(np.float64)), name)


def _joined(levels: I64, codes: list[I64], counts: list[I64]) -> Bins:
    """Bins of the same levels added up, joined until they fit."""
    every, weights = np.concatenate(codes), np.concatenate(counts)
    order = np.argsort(every, kind="stable")
    names, total = _summed(every[order], weights[order])
    while True:
        place = names >> _PLACE
        over = np.bincount(place, minlength=len(levels)) > MAX_BINS
        if not over.any():
            return Bins(levels, names, total)
        levels = levels + over
        names, total = _summed(np.where(over[place], _halved(names), names), total)


def raised(bins: Bins, level: int) -> Bins:
    """One quantity's bins at a level that is no finer."""
    codes, counts = bins.codes, bins.counts
    for _ in range(level - int(bins.levels[0])):
        codes, counts = _summed(_halved(codes), counts)
    return Bins(np.array([level]), codes, counts)


def _halved(codes: I64) -> I64:
    """The bins that these are in at the next level; their order stays."""
    name = (codes & _NAME) - _ZERO
    half = np.abs(name) >> 1
    halved: I64 = (codes & ~_NAME) + _ZERO + np.where(name < 0, -half, half)
    return halved


def _summed(codes: I64, counts: I64) -> tuple[I64, I64]:
    """Ascending codes, each once, with the sum of its counts."""
    ends = _ends(codes)
    # Four times as fast as `np.add.reduceat`, and exact: these are whole numbers.
    return codes[ends], np.diff(np.cumsum(counts)[ends], prepend=0)


def _ends(codes: NDArray[np.signedinteger[Any]]) -> NDArray[np.intp]:
    """The last place of each run of equal codes."""
    if not len(codes):
        return np.empty(0, np.intp)
    return np.append(np.flatnonzero(codes[1:] != codes[:-1]), len(codes) - 1)
