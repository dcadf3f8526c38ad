"""How good the scores are: alarms at rest, changes found, and how soon."""

from __future__ import annotations

from typing import Any

import numpy as np
from dataset import KINDS, Telemetry
from measures import roc_auc, share
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
        "precision": share(found, alarms),
        "recall": share(found, int(change.sum())),
        "roc_auc": roc_auc(scores[rest], scores[change]),
        "false_alarm_share": share(int((alarm & rest).sum()), int(rest.sum())),
        "false_alarm_share_by_kind": {
            kind: share(int((alarm & rest & of).sum()), int((rest & of).sum()))
            for number, kind in enumerate(KINDS)
            if (rest & (of := telemetry.kind == number)).any()
        },
        "episodes": delays,
    }


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
