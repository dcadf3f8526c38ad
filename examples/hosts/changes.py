"""The model's fixed first layer: from feature levels to changes, bounded.

What counts is how far the short memory is from the long one, so differences are taken before
anything is learned, and every column is cut to the range in which it carries meaning: a z-score
of 40 on an idle disk says no more than one of 8, and no other machine can reach a value that
training has never seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CHANGES: tuple[tuple[dict[str, float], float, float], ...] = (
    ({"load_fast": 1, "load_slow": -1}, -1, 1),
    ({"load_mean_short": 1, "load_mean_long": -1}, -1, 1),
    ({"load_min_short": 1, "load_slow": -1}, -1, 1),
    ({"load_min_short": 1}, 0, 1),
    ({"load_mean_short": 1}, 0, 1),
    ({"load_slow": 1}, 0, 1),
    ({"load_max_long": 1}, 0, 1),
    ({"load_std_long": 1}, 0, 0.5),
    ({"load_zscore": 0.25}, -2, 2),
    ({"ops_per_s_zscore": 0.25}, -2, 2),
    ({"bytes_per_s_zscore": 0.25}, -2, 2),
    ({"pressure_fast": 1, "pressure_slow": -1}, -2, 2),
    ({"pressure_zscore": 0.25}, -2, 2),
    ({"memory_fast": 20, "memory_slow": -20}, -2, 2),
    ({"memory_zscore": 0.25}, -2, 2),
)
"""Each column as weights of features, its least and its greatest value."""

HISTORY = (
    "load_zscore",
    "ops_per_s_zscore",
    "bytes_per_s_zscore",
    "pressure_zscore",
    "memory_zscore",
)
"""While all of these are 0 the device has no past to differ from, and the score is 0 too."""


def has_past(inputs: tuple[str, ...]) -> NDArray[np.float32]:
    """float32 (F, 1): 1 for the inputs of `HISTORY`."""
    return np.array([[name in HISTORY] for name in inputs], np.float32)


def weights(inputs: tuple[str, ...]) -> NDArray[np.float32]:
    """float32 (F, K): column k of `CHANGES` as weights of the F model inputs."""
    matrix = np.zeros((len(inputs), len(CHANGES)), np.float32)
    for column, (terms, _, _) in enumerate(CHANGES):
        for name, weight in terms.items():
            matrix[inputs.index(name), column] = weight
    return matrix


def bounds() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Least and greatest value of each column, float32 (K,) each."""
    low = np.array([low for _, low, _ in CHANGES], np.float32)
    return low, np.array([high for _, _, high in CHANGES], np.float32)


def changes(features: NDArray[np.float32], inputs: tuple[str, ...]) -> NDArray[np.float32]:
    """float32 (N, K) from model inputs float32 (N, F): what the first layer computes."""
    low, high = bounds()
    return np.asarray(np.clip(features @ weights(inputs), low, high), np.float32)
