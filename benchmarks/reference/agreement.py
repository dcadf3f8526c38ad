"""Whether all sides predicted the same: no comparison of speed means anything before."""

from __future__ import annotations

from typing import Any

import numpy as np
from telemetry_log import Predictions

LENGTHS = 0.01
"""Most that two sides' mean length of a prediction may differ, as a share."""
WORST_SCORE = 1e-5
"""Largest difference between two sides' scores: float32 and the order of a sum."""

Prediction = dict[str, Any]


def compare(wrote: dict[str, Predictions]) -> None:
    """Every side predicted the same events with the same values, but for id and time of serving.

    Raises:
        SystemExit: it did not.
    """
    (first, expected), *others = wrote.items()
    for name, found in wrote.items():
        if missing := int(np.isnan(found.scores).sum()):
            raise SystemExit(f"{name} has no prediction of {missing} of {len(found.scores)} events")
    for name, found in others:
        one_log = len(found.scores) == len(expected.scores)
        if differ := different(found.sample, expected.sample, one_log=one_log):
            raise SystemExit(f"{name} and {first} write different values of {', '.join(differ)}")
        longer = abs(found.value_bytes / expected.value_bytes - 1)
        if longer > LENGTHS:
            raise SystemExit(f"predictions of {name} and {first} differ by {longer:.1%} in length")
        shared = min(len(found.scores), len(expected.scores))
        worst = float(np.abs(found.scores[:shared] - expected.scores[:shared]).max())
        if worst > WORST_SCORE:
            raise SystemExit(f"{name} differs from {first} by {worst} in a score")


def different(a: Prediction, b: Prediction, *, one_log: bool) -> list[str]:
    """Fields of two predictions of one event whose values differ.

    The id and the time of serving are each side's own. The name of the log and its broker's times
    are compared only where both sides read `one_log`.
    """
    a, b = (_comparable(prediction, one_log=one_log) for prediction in (a, b))
    return sorted(name for name in a.keys() | b.keys() if not _same(a.get(name), b.get(name)))


def _comparable(prediction: Prediction, *, one_log: bool) -> Prediction:
    times = {name: at for name, at in prediction["times_ms"].items() if name != "served"}
    found = prediction | {"times_ms": times, "id": len(prediction["id"])}
    if not one_log:
        age_ms = times.pop("ingest") - times["device"]
        found["feature_age_ms"] -= age_ms
        found["source"] = found["source"].partition("[")[2]
    return found


def _same(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= WORST_SCORE
    return type(a) is type(b) and a == b
