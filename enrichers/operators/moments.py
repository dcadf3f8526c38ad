"""`mean` and `std` over a window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.enrichers.runs import Runs, scan
from headrace.schemas.batch import F64


class Moments:
    """Mean and population standard deviation of each metric's present values; NaN without any.

    A tile keeps count ``n``, its first value ``c``, ``s = sum(x - c)`` and ``q = sum((x - c)^2)``:
    plain sums in log order. ``c`` is one of the values, which bounds the cancellation in
    ``q - s^2 / n`` to a relative error of about ``n`` roundings, however large the values are.
    Tiles then merge oldest first as ``(n, mean, m2)``:
    ``mean += d * share``, ``m2 += m2' + d^2 * (n * share)``, with ``d = mean' - mean`` and
    ``share = n' / (n + n')``.

    Source: Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance": shifted data,
    and the pairwise update.

    Args:
        means: Column of the features and metric of each `mean`.
        stds: Likewise of each `std`.
    """

    name = "moments"

    def __init__(self, means: Sequence[tuple[int, int]], stds: Sequence[tuple[int, int]]) -> None:
        self._metrics = sorted({metric for _, metric in (*means, *stds)})
        self._means = [(place, self._metrics.index(metric)) for place, metric in means]
        self._stds = [(place, self._metrics.index(metric)) for place, metric in stds]
        self.blank = np.zeros(4 * len(self._metrics))

    def scan(self, runs: Runs, metrics: F64, carry: F64) -> F64:
        """The tile after each event: n, c, s and q of every metric, in this order."""
        k = len(self._metrics)
        values = metrics[:, self._metrics]
        present = ~np.isnan(values)
        first = np.where(carry[:, :k] > 0, carry[:, k : 2 * k], _first_present(runs, values))
        shifted = np.where(present, values - first[runs.group], 0.0)
        steps = np.concatenate((present, shifted, shifted * shifted), axis=1)
        sums = scan(np.add, runs, steps, np.delete(carry, np.s_[k : 2 * k], axis=1))
        return np.concatenate((sums[:, :k], first[runs.group], sums[:, k:]), axis=1)

    def open(self, tiles: F64) -> F64:
        """(n, mean, m2) of each tile."""
        n, c, s, q = np.split(tiles, 4, axis=1)
        safe = np.maximum(n, 1.0)
        mean = np.where(n > 0, c + s / safe, 0.0)
        return np.concatenate((n, mean, np.maximum(q - s * s / safe, 0.0)), axis=1)

    def merge(self, older: F64, newer: F64) -> F64:
        """Chan's pairwise update; a stretch without values leaves the other as it is."""
        n1, mean1, m1 = np.split(older, 3, axis=1)
        n2, mean2, m2 = np.split(newer, 3, axis=1)
        n = n1 + n2
        share = n2 / np.maximum(n, 1.0)
        d = mean2 - mean1
        return np.concatenate((n, mean1 + d * share, m1 + m2 + d * d * (n1 * share)), axis=1)

    def finish(self, window: F64, out: F64) -> None:
        """Write means and standard deviations."""
        n, mean, m2 = np.split(window, 3, axis=1)
        for place, k in self._means:
            out[:, place] = np.where(n[:, k] > 0, mean[:, k], np.nan)
        for place, k in self._stds:
            variance = m2[:, k] / np.maximum(n[:, k], 1.0)
            out[:, place] = np.where(n[:, k] > 0, np.sqrt(variance), np.nan)


def _first_present(runs: Runs, values: F64) -> F64:
    """Each group's first present value (G, K), 0 where it has none."""
    positions = np.arange(len(values))[:, None]
    marked = np.where(np.isnan(values), len(values), positions)
    first = np.minimum.reduceat(marked, runs.starts, axis=0)
    found = np.take_along_axis(values, np.minimum(first, len(values) - 1), axis=0)
    return np.where(first < len(values), found, 0.0)
