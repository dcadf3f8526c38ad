"""Latencies counted in bins that are as wide as their values are large; merging adds counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import F64, I64

_SHIFT = 46  # of the 52 bits of a mantissa, those that the bins disregard: 64 bins from 1 to 2
_LOWEST_MS, _HIGHEST_MS = 2.0**-10, 2.0**31
_FIRST = int(np.float64(_LOWEST_MS).view(np.int64)) >> _SHIFT
BINS = 41 << (52 - _SHIFT)
"""Bins from a microsecond to 25 days; what lies beyond either end counts in the last one there."""

_LEAST = float(np.nextafter(_LOWEST_MS, 1.0))


def bins_of(latencies_ms: F64) -> NDArray[np.intp]:
    """The bin of each latency; of bounds a and b a bin holds what is above a and at most b.

    A bin is named by the first bits of a value's float64, so no logarithm is computed. A negative
    latency, which two clocks can make, counts as the shortest.

    Args:
        latencies_ms: float64 (N,), milliseconds, none NaN.

    Returns:
        intp (N,), from 0 to `BINS` - 1.

    Source: Tene, "HdrHistogram", for bins by bits.
    """
    within = np.clip(latencies_ms, _LEAST, _HIGHEST_MS)
    places: NDArray[np.intp] = ((within.view(np.int64) - 1) >> _SHIFT) - _FIRST
    return places


def upper_ms(places: NDArray[np.intp]) -> F64:
    """The upper bound of each bin, milliseconds: the largest value that counts in it."""
    return ((places.astype(np.int64) + (_FIRST + 1)) << _SHIFT).view(np.float64)


def count_within(counts: I64, limit_ms: float) -> int:
    """How many values of int64 (BINS,) are at most `limit_ms`.

    Exact for a limit that is a bin's bound, as all whole milliseconds up to 128 are; else up to the
    bound above it, which is at most 1.6 % more.

    Example:
        >>> counts = np.bincount(bins_of(np.array([5.0, 25.0, 25.5])), minlength=BINS)
        >>> count_within(counts, 25.0)
        2
    """
    (last,) = bins_of(np.array([limit_ms])).tolist()
    return int(counts[: last + 1].sum())


def quantile_of(counts: I64, q: float) -> float:
    """The value at rank ``max(1, ceil(q * N))`` of int64 (BINS,), milliseconds; NaN of none.

    The middle of its bin: off by at most 1/128 of the value.
    """
    total = int(counts.sum())
    if not total:
        return float("nan")
    rank = max(1, int(np.ceil(q * total)))
    place = np.searchsorted(np.cumsum(counts), rank).astype(np.intp)
    high, low = (float(upper_ms(np.array([place - back]))[0]) for back in (0, 1))
    return (low + high) / 2


def total_ms(counts: I64) -> float:
    """The sum of the values of int64 (BINS,), each taken for the middle of its bin: within 1 %."""
    places = np.flatnonzero(counts)
    middles = (upper_ms(places - 1) + upper_ms(places)) / 2
    return float(counts[places] @ middles)


class Latency:
    """Quantiles of latencies within 1/128 of the exact ones: memory is fixed, whatever the count.

    Latency is the consumer's clock less the device's: where they are two machines, the
    difference of their clocks is in it. A negative latency counts as 0.

    Example:
        >>> latency = Latency()
        >>> latency.record(np.array([10.0, 10.0, 10.0, 500.0]))
        >>> round(latency.quantile(0.5)), round(latency.quantile(0.99))
        (10, 498)
    """

    def __init__(self) -> None:
        self.count = 0
        self.counts = np.zeros(BINS, np.int64)

    def record(self, latencies_ms: F64) -> None:
        """Count each of float64 (N,), milliseconds."""
        self.counts += np.bincount(bins_of(latencies_ms), minlength=BINS)
        self.count += len(latencies_ms)

    def quantile(self, q: float) -> float:
        """The latency that a share `q` does not exceed, milliseconds; NaN when there are none."""
        return quantile_of(self.counts, q)
