"""What the devices of a fleet measure, and labelled anomalies of many kinds in it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.input import Metric
from headrace.streams.producers.chance import F64, I64, drawn

ANOMALIES = (
    "none", "spike", "level_shift", "drift", "stuck", "noise", "dropout", "seasonal_break",
    "cross_metric",
)  # fmt: skip
"""Kinds of anomaly; a label is an index into this."""

SEASON_S = 60.0
SEASON, SHARED, OWN = 0.05, 0.01, 0.01
"""Season, what a device's metrics have in common, and noise: shares of a metric's span."""
FAR = 10.0
"""An anomaly moves a metric by so many times `SHARED + OWN`."""
READINGS = 40
"""Readings of a device in a slot, of which an episode takes the third quarter."""
LEAST_SLOT_S = 20.0
DECIMALS = 4

_BASE, _PHASE, _HAS, _KIND, _METRIC, _SLOT, _STUCK = range(100, 107)


def bounds(metric: Metric) -> tuple[float, float]:
    """Between which values a metric is drawn: its own bounds, or 100 wide where one is missing.

    Example:
        >>> bounds(Metric(min=-40.0)), bounds(Metric(max=-5.0)), bounds(Metric())
        ((-40.0, 60.0), (-105.0, -5.0), (0.0, 100.0))
    """
    if metric.min is not None:
        return metric.min, metric.max if metric.max is not None else metric.min + 100.0
    high = 100.0 if metric.max is None else metric.max
    return high - 100.0, high


class Signals:
    """Values of every metric of a pipeline, and where they are anomalous.

    A value is a level of the device's own, a season, a part that its metrics share, and noise.
    An episode of one kind changes one metric of one device for a while.

    Args:
        metrics: The pipeline's, in the order of the columns.
        seed: The same seed gives the same signals and episodes.
        share: Share of the slots of `READINGS` readings that have an episode.
    """

    def __init__(self, metrics: Mapping[str, Metric], seed: int, share: float) -> None:
        low_high = np.array([bounds(metric) for metric in metrics.values()])
        self._low, self._high = low_high[:, 0], low_high[:, 1]
        self._span = self._high - self._low
        self._count, self._seed, self._share = len(metrics), seed, share
        # One metric has no other to disagree with.
        self._kinds = len(ANOMALIES) - (1 if self._count > 1 else 2)

    def read(
        self, devices: I64, at_s: F64, period_s: F64, chance: np.random.Generator
    ) -> tuple[F64, NDArray[np.int8]]:
        """Every metric of each reading.

        Args:
            devices: int64 (N,), device number.
            at_s: float64 (N,), seconds into the run.
            period_s: float64 (N,), time between two readings of the device, seconds.
            chance: Noise.

        Returns:
            float64 (N, M), within each metric's bounds; int8 (N,), index into `ANOMALIES`.
        """
        rows, count = len(devices), self._count
        keys = devices[:, None] * count + np.arange(count)
        base = 0.35 + 0.3 * drawn(keys, self._seed, _BASE)
        angle = 2 * np.pi * (at_s / SEASON_S + drawn(devices, self._seed, _PHASE))
        season = SEASON * np.sin(angle)[:, None]
        shared = chance.standard_normal((rows, 1)) * SHARED
        own = chance.standard_normal((rows, count)) * OWN
        values = base + season + shared + own
        labels = self._disturb(values, base, season, shared, own, devices, at_s, period_s)
        values *= self._span
        values += self._low
        # Rounding must not lead over a bound.
        return np.clip(np.round(values, DECIMALS), self._low, self._high), labels

    def _disturb(
        self,
        values: F64,
        base: F64,
        season: F64,
        shared: F64,
        own: F64,
        devices: I64,
        at_s: F64,
        period_s: F64,
    ) -> NDArray[np.int8]:
        """Change the readings that lie in an episode, in place; the label of each reading."""
        slot_s = np.maximum(LEAST_SLOT_S, READINGS * period_s)
        place = at_s / slot_s + drawn(devices, self._seed, _SLOT)
        slots = place.astype(np.int64)
        # A device has its own slots: a million of them do not begin at once.
        keys = devices * (1 << 24) + slots
        labels = np.zeros(len(devices), np.int8)
        within = (place - slots - 0.5) * 4
        inside = np.flatnonzero((within >= 0) & (within < 1))
        rows = inside[drawn(keys[inside], self._seed, _HAS) < self._share]
        if not len(rows):
            return labels
        kinds = 1 + (drawn(keys[rows], self._seed, _KIND) * self._kinds).astype(np.int8)
        metric = (drawn(keys[rows], self._seed, _METRIC) * self._count).astype(np.int64)
        held = drawn(keys[rows], self._seed, _STUCK)
        since = within[rows]
        first = since * slot_s[rows] / 4 < period_s[rows]
        step = FAR * (SHARED + OWN)
        cell = (rows, metric)
        calm, noise, common = values[cell], own[cell], shared[rows, 0]
        moved = [
            calm, calm + step, calm + step, calm + 2 * step * since,
            base[cell] + OWN * held, calm + (FAR - 1) * noise, np.zeros(len(rows)),
            calm - 2 * season[rows, 0], calm - 2 * common - FAR * SHARED * np.sign(common),
        ]  # fmt: skip
        values[cell] = np.choose(kinds, moved)
        # A spike is one reading; the rest of its episode is as ever.
        over = (kinds == ANOMALIES.index("spike")) & ~first
        values[rows[over], metric[over]] = calm[over]
        labels[rows] = np.where(over, 0, kinds)
        return labels
