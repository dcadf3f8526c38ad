"""Why a device stands out: its features beside those of the other devices: pure."""

from __future__ import annotations

import numpy as np

from headrace.schemas.batch import F64

LEAST_PEERS = 4
"""Fewer other devices say nothing of what is usual."""

# Makes the median distance comparable to a standard deviation, for a normal distribution.
_MAD = 1.4826
_MEAN = 1.2533


def standing_out(own: F64, others: F64) -> tuple[F64, F64]:
    """How far each feature lies from what is usual, in spreads of the others.

    The spread is the median distance from the median; where more than half of the others have the
    same value, the mean distance; where all do, nothing can be said.

    Args:
        own: float64 (K,), the device's features; NaN where missing.
        others: float64 (N, K), the other devices'.

    Returns:
        float64 (K,), the others' medians; and float64 (K,), distances in spreads, signed. Both are
        NaN where fewer than `LEAST_PEERS` others have the feature.

    Delivery: pure.
    Source: Iglewicz and Hoaglin (1993), the modified z-score.

    Example:
        >>> usual, apart = standing_out(np.array([9.0]), np.array([[1.0], [2.0], [3.0], [4.0]]))
        >>> usual.tolist(), apart.round(2).tolist()
        ([2.5], [4.38])
    """
    usual, apart = np.full(len(own), np.nan), np.full(len(own), np.nan)
    for k, value in enumerate(own.tolist()):
        column = others[:, k][np.isfinite(others[:, k])]
        if len(column) >= LEAST_PEERS:
            # A spread next to nothing makes infinity, which is no error: it is far.
            with np.errstate(all="ignore"):
                usual[k], apart[k] = _one(value, column)
    return usual, apart


def _one(value: float, column: F64) -> tuple[float, float]:
    usual = np.median(column)
    distances = np.abs(column - usual)
    spread = _MAD * np.median(distances) or _MEAN * distances.mean()
    if value == usual:
        return float(usual), 0.0
    return float(usual), float((value - usual) / spread) if spread > 0 else np.nan
