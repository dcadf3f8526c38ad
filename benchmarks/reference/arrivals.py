"""What the receiver makes of the predictions that arrived; it needs no client of the bus."""

from __future__ import annotations

import numpy as np

MARK = b'"event_id":"'
DIGITS = slice(len("press-0000-"), len("press-0000-00000000"))


def number_of(prediction: bytes) -> int:
    """The number in the event id of a prediction."""
    at = prediction.index(MARK) + len(MARK)
    return int(prediction[at + DIGITS.start : at + DIGITS.stop])


def percentiles(latency_s: np.ndarray) -> dict[str, float]:
    """Percentiles in ms of float64 (N,) seconds, NaN where nothing came; these are counted, too."""
    came = latency_s[~np.isnan(latency_s)] * 1000
    found: dict[str, float] = {"events": len(latency_s), "missing": len(latency_s) - len(came)}
    if len(came):
        for name, share in (("p50_ms", 50), ("p99_ms", 99), ("p99_9_ms", 99.9), ("max_ms", 100)):
            found[name] = round(float(np.percentile(came, share, method="higher")), 1)
    return found
