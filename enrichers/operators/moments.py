"""`mean` and `std` over a window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.enrichers.operators.frame import columns
from headrace.enrichers.runs import Runs, scan
from headrace.schemas.batch import F64


class Moments:
    """Mean and population standard deviation of each metric's present values; NaN without any.

    A tile keeps count ``n``, its first value ``c``, ``s = sum(x - c)`` and ``q = sum((x - c)^2)``:
    plain sums in log order. ``c`` is one of the values, which bounds the cancellation in
    ``q - s^2 / n`` to a relative error of about ``n`` roundings, however large the values are.
    Tiles then merge oldest first as ``(n, mean, m2)``:
    ``mean += d * share``, ``m2 += m2'``, ``m2 += d^2 * (n * share)``, with ``d = mean' - mean``
    and ``share = n' / (n + n')``. A tile without values leaves all three as they are.

    Source: Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance": shifted data,
    and the pairwise update.

    Args:
        means: Column of the features and metric of each `mean`.
        stds: Likewise of each `std`.
    """

    name = "moments"

    def __init__(self, means: Sequence[tuple[int, int]], stds: Sequence[tuple[int, int]]) -> None:
        metrics = sorted({metric for _, metric in (*means, *stds)})
        self._metrics = columns(metrics)
        self._width = len(metrics)
        self._means = columns([place for place, _ in means])
        self._mean_of = columns([metrics.index(metric) for _, metric in means])
        self._stds = columns([place for place, _ in stds])
        self._std_of = columns([metrics.index(metric) for _, metric in stds])
        self.blank = np.zeros(4 * len(metrics))

    def scan(self, runs: Runs, metrics: F64, carry: F64) -> F64:
        """The tile after each event: c, n, s and q of every metric, in this order."""
        k = self._width
        values = metrics[:, self._metrics]
        present = ~np.isnan(values)
        first = np.where(carry[:, k : 2 * k] > 0, carry[:, :k], _first_present(runs, values))
        steps = np.empty((len(values), 3 * k))
        steps[:, :k] = present
        shifted = steps[:, k : 2 * k]
        shifted[:] = np.where(present, values - first[runs.group], 0.0)
        np.multiply(shifted, shifted, out=steps[:, 2 * k :])
        tiles = np.empty((len(values), 4 * k))
        tiles[:, :k] = first[runs.group]
        tiles[:, k:] = scan(np.add, runs, steps, carry[:, k:])
        return tiles

    def fold(self, tiles: F64) -> F64:
        """Merge tiles oldest first."""
        opened = self._open(tiles)
        n, mean, m2 = np.zeros((3, tiles.shape[1], self._width))
        for tile in range(len(tiles)):
            n, mean, m2 = _merge(n, mean, m2, opened[:, tile])
        return np.stack((n, mean, m2))

    def finish(self, rest: F64, newest: F64, out: F64) -> None:
        """Write means and standard deviations."""
        n, mean, m2 = _merge(rest[0], rest[1], rest[2], self._open(newest))
        none = n == 0
        out[:, self._means] = np.where(none, np.nan, mean)[:, self._mean_of]
        std = np.sqrt(m2 / np.maximum(n, 1.0))
        out[:, self._stds] = np.where(none, np.nan, std)[:, self._std_of]

    def _open(self, tiles: F64) -> F64:
        """Count, mean and m2 (3, ..., K) of tiles (..., W)."""
        k = self._width
        c, n, s, q = (tiles[..., at : at + k] for at in range(0, 4 * k, k))
        opened = np.empty((3, *n.shape))
        safe = np.maximum(n, 1.0)
        opened[0] = n
        opened[1] = np.where(n > 0, c + s / safe, 0.0)
        np.maximum(q - s * s / safe, 0.0, out=opened[2])
        return opened


def _merge(n1: F64, mean1: F64, m1: F64, newer: F64) -> tuple[F64, F64, F64]:
    """Chan's pairwise update of a stretch of time by the one after it."""
    n2, mean2, m2 = newer
    n = n1 + n2
    share = n2 / np.maximum(n, 1.0)
    d = mean2 - mean1
    return n, mean1 + d * share, m1 + m2 + d * d * (n1 * share)


def _first_present(runs: Runs, values: F64) -> F64:
    """Each group's first present value (G, K), 0 where it has none."""
    first = values[runs.starts]
    if not np.isnan(first).any():
        return first
    marked = np.where(np.isnan(values), len(values), np.arange(len(values))[:, None])
    at = np.minimum.reduceat(marked, runs.starts, axis=0)
    found = np.take_along_axis(values, np.minimum(at, len(values) - 1), axis=0)
    return np.where(at < len(values), found, 0.0)
