"""What the receiver makes of the predictions that arrived; it needs no client of the bus."""

from __future__ import annotations

import math

import numpy as np

MARK = b'"event_id":"'
DIGITS = slice(len("press-0000-"), len("press-0000-00000000"))


def number_of(prediction: bytes) -> int:
    """The number in the event id of a prediction."""
    at = prediction.index(MARK) + len(MARK)
    return int(prediction[at + DIGITS.start : at + DIGITS.stop])


def percentiles(latency_s: np.ndarray) -> dict[str, float | None]:
    """Percentiles in ms of float64 (N,) seconds, NaN where nothing came.

    An event that did not come took for ever: a percentile that reaches it is None.
    """
    missing = np.isnan(latency_s)
    waited_ms = np.where(missing, np.inf, latency_s * 1000)
    found: dict[str, float | None] = {"events": len(latency_s), "missing": int(missing.sum())}
    for name, share in (("p50_ms", 50), ("p99_ms", 99), ("p99_9_ms", 99.9), ("max_ms", 100)):
        at = np.sort(waited_ms)[_rank(len(waited_ms), share)]
        found[name] = round(float(at), 1) if np.isfinite(at) else None
    return found


def _rank(count: int, share: float) -> int:
    """Place of a percentile among ascending values: the higher of its two neighbours.

    >>> [_rank(100, share) for share in (50, 99, 100)]
    [50, 99, 99]
    """
    return math.ceil((count - 1) * share / 100)
