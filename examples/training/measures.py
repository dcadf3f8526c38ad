"""How good scores are against labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def share(part: int, whole: int) -> float:
    """`part` of `whole`, rounded; 0.0 of nothing."""
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


def judged(
    labels: NDArray[np.int8],
    kinds: NDArray[np.str_],
    scores: NDArray[np.floating],
    threshold: float,
) -> dict[str, Any]:
    """Quality at a threshold; rows with a label below 0 do not count.

    Args:
        labels: int8 (N,): 1 to be found, 0 not, -1 not judged.
        kinds: (N,), what each row belongs to.
        scores: (N,).
        threshold: A score at or above it says "found".
    """
    alarm = scores >= threshold
    rest, wanted = labels == 0, labels == 1
    found, false = int((alarm & wanted).sum()), int((alarm & rest).sum())
    return {
        "rows": {"normal": int(rest.sum()), "to_find": int(wanted.sum())},
        "precision": share(found, found + false),
        "recall": share(found, int(wanted.sum())),
        "roc_auc": roc_auc(scores[rest], scores[wanted]),
        "false_alarm_share": share(false, int(rest.sum())),
        "recall_by_kind": {
            str(kind): share(int((alarm & of).sum()), int(of.sum()))
            for kind in np.unique(kinds[wanted])
            for of in [wanted & (kinds == kind)]
        },
    }
