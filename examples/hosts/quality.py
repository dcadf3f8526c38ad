"""How good the scores are: alarms at rest, changes found, and how soon."""

from __future__ import annotations

from typing import Any

import numpy as np
from dataset import KINDS, Telemetry
from numpy.typing import NDArray


def quality(telemetry: Telemetry, scores: NDArray[np.floating], threshold: float) -> dict[str, Any]:
    """Quality on labelled telemetry; rows that are not judged do not count.

    Args:
        telemetry: N rows.
        scores: (N,), probability of a change.
        threshold: A score at or above it is an alarm.
    """
    alarm = scores >= threshold
    rest, change = telemetry.label == 0, telemetry.label == 1
    found = int((alarm & change).sum())
    alarms = found + int((alarm & rest).sum())
    delays = delays_s(telemetry, alarm)
    return {
        "rows": {"rest": int(rest.sum()), "change": int(change.sum())},
        "precision": _share(found, alarms),
        "recall": _share(found, int(change.sum())),
        "roc_auc": roc_auc(scores[rest], scores[change]),
        "false_alarm_share": _share(int((alarm & rest).sum()), int(rest.sum())),
        "false_alarm_share_by_kind": {
            kind: _share(int((alarm & rest & of).sum()), int((rest & of).sum()))
            for number, kind in enumerate(KINDS)
            if (rest & (of := telemetry.kind == number)).any()
        },
        "episodes": delays,
    }


def _share(part: int, whole: int) -> float:
    return round(part / whole, 5) if whole else 0.0


def roc_auc(low: NDArray[np.floating], high: NDArray[np.floating]) -> float:
    """Chance that a score of `high` is above one of `low`, ties counted half.

    Source: Mann and Whitney's U over the product of the sizes.

    Example:
        >>> roc_auc(np.array([0.1, 0.5]), np.array([0.5, 0.9]))
        0.875
    """
    both = np.concatenate([low, high])
    _, place, counts = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    u = ranks[len(low) :].sum() - len(high) * (len(high) + 1) / 2
    return round(float(u / (len(low) * len(high))), 5)


def delays_s(telemetry: Telemetry, alarm: NDArray[np.bool_]) -> dict[str, dict[str, Any]]:
    """By kind of episode: how many there were, were found, and how long it took, seconds.

    An episode is found with the first alarm on any device it must be seen on; the delay is from
    its start, the time in which single rows are not judged included.
    """
    result: dict[str, dict[str, Any]] = {}
    seen: dict[str, list[float]] = {}
    for number in np.unique(telemetry.episode[telemetry.episode >= 0]).tolist():
        rows = telemetry.episode == number
        times = telemetry.time_ms[rows & alarm]
        delay_s = (times.min() - telemetry.onset_ms[number]) / 1000 if len(times) else np.inf
        seen.setdefault(telemetry.episodes[number], []).append(float(delay_s))
    for kind, delays in sorted(seen.items()):
        caught = [delay for delay in delays if np.isfinite(delay)]
        result[kind] = {
            "episodes": len(delays),
            "found": len(caught),
            "median_delay_s": round(float(np.median(caught)), 2) if caught else None,
            "max_delay_s": round(max(caught), 2) if caught else None,
        }
    return result
