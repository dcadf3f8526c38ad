"""Perceived latency: how old an event was when its answer reached the caller."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_PER_DOUBLING = 32
_BUCKETS = 40 * _PER_DOUBLING
_SMALLEST_MS = 0.001


class Latency:
    """Quantiles of latencies in buckets 2.2 % wide: memory is fixed, whatever the count.

    Latency is the consumer's clock less the device's: where they are two machines, the
    difference of their clocks is in it. A negative latency counts as 0.

    Example:
        >>> latency = Latency()
        >>> latency.record(np.array([10.0, 10.0, 10.0, 500.0]))
        >>> round(latency.quantile(0.5)), round(latency.quantile(0.99))
        (10, 497)
    """

    def __init__(self) -> None:
        self.count = 0
        self._counts = np.zeros(_BUCKETS, np.int64)

    def record(self, latencies_ms: NDArray[np.float64]) -> None:
        """Count each of float64 (N,), milliseconds."""
        at = np.log2(np.maximum(latencies_ms, _SMALLEST_MS) / _SMALLEST_MS) * _PER_DOUBLING
        rows = np.minimum(at.astype(np.int64), _BUCKETS - 1)
        self._counts += np.bincount(rows, minlength=_BUCKETS)
        self.count += len(rows)

    def quantile(self, q: float) -> float:
        """The latency that a share `q` does not exceed, milliseconds; NaN when there are none."""
        if not self.count:
            return float("nan")
        rank = max(1, int(np.ceil(q * self.count)))
        row = int(np.searchsorted(np.cumsum(self._counts), rank))
        middle = _SMALLEST_MS * 2.0 ** ((row + 0.5) / _PER_DOUBLING)
        return float(middle)
