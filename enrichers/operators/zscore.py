"""`zscore`: how unusual a value is for its own entity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.enrichers.operators.frame import Field, Frame, Rows, columns
from headrace.enrichers.runs import scan, scan_blend, scan_decay
from headrace.schemas.batch import F64

FLAT = 1e-9
"""A standard deviation below this share of the mean is rounding, not spread."""


class Zscore:
    """Distance from the exponentially weighted mean, in standard deviations, both before the event.

    With ``d = x - mean``: ``z = d / sqrt(var)``, then ``mean += alpha * d`` and
    ``var = (1 - alpha) * (var + alpha * d * d)``; the first value sets the mean. 0 until the
    metric had `warm_up` values, and where ``sqrt(var)`` is below `FLAT` of the mean; NaN where the
    event lacks the metric, which leaves mean and variance.

    Source: Finch 2009, "Incremental calculation of weighted mean and variance", section 9.

    Args:
        places: Its columns of the features.
        metrics: The metric of each.
        alphas: The weight of the newest value of each, 0 to 1.
        warm_ups: The values each waits for.
    """

    def __init__(
        self,
        places: Sequence[int],
        metrics: Sequence[int],
        alphas: Sequence[float],
        warm_ups: Sequence[int],
    ) -> None:
        self._places = columns(places)
        self._metrics = columns(metrics)
        self._alphas = np.array(alphas, np.float64)
        self._warm_ups = np.array(warm_ups, np.float64)
        shape = (len(places),)
        self.fields = (
            Field("z_count", "<f8", shape, 0.0),
            Field("z_mean", "<f8", shape, np.nan),
            Field("z_var", "<f8", shape, 0.0),
        )

    def apply(self, rows: Rows, frame: Frame, out: F64) -> None:
        """Judge each value by those before it, then learn from it."""
        runs, values = frame.runs, frame.metrics[:, self._metrics]
        counts = scan(np.add, runs, 1.0 - np.isnan(values), rows["z_count"])
        means = scan_blend(runs, values, rows["z_mean"], self._alphas)
        mean = runs.before(means, rows["z_mean"])
        distance = values - mean
        grown = np.where(
            np.isnan(mean) & ~np.isnan(values), 0.0, self._alphas * distance * distance
        )
        variances = scan_decay(runs, grown, rows["z_var"], 1.0 - self._alphas)
        spread = np.sqrt(runs.before(variances, rows["z_var"]))
        known = runs.before(counts, rows["z_count"]) >= self._warm_ups
        known &= spread > FLAT * np.abs(mean)
        score = np.where(known, distance / np.where(known, spread, 1.0), 0.0)
        out[:, self._places] = np.where(np.isnan(values), np.nan, score)
        rows["z_count"] = counts[runs.ends]
        rows["z_mean"] = means[runs.ends]
        rows["z_var"] = variances[runs.ends]
