"""Drift: later windows of one model held against its first ones, by feature and device class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from headrace.schemas.batch import F64
from headrace.schemas.observe import Drift
from headrace.schemas.observed import Finding, Reference, SketchTold
from headrace.streams.upstream.quantiles import Bins, merge_bins, raised

_SHARES = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
_LEAST_SHARE = 1e-4
"""A bin of the index that is empty counts as this share: the index stays finite."""


@dataclass(frozen=True, slots=True)
class WindowSketch:
    """One window of one device class, all workers together.

    Attributes:
        rows: Events looked at.
        high: Of those, scored at or above the threshold.
        bins: Bins of each quantity, in a fixed order.
    """

    rows: int
    high: int
    bins: tuple[Bins, ...]

    def merged(self, other: WindowSketch) -> WindowSketch:
        """Both together, the same bits in any order."""
        bins = tuple(merge_bins(a, b) for a, b in zip(self.bins, other.bins, strict=True))
        return WindowSketch(self.rows + other.rows, self.high + other.high, bins)


@dataclass(slots=True)
class _Reference:
    windows: list[WindowSketch] = field(default_factory=list)
    pooled: WindowSketch | None = None
    spread: list[float] = field(default_factory=list)


def told_of(sketch: WindowSketch) -> SketchTold:
    """A window as it travels."""
    return SketchTold(sketch.rows, sketch.high, Bins.stacked(sketch.bins).encode())


def sketch_of(told: SketchTold) -> WindowSketch:
    """What `told_of` got.

    Raises:
        ValueError, IndexError: its bytes are none of bins.
    """
    return WindowSketch(told.rows, told.high, tuple(Bins.decode(told.bins).split(1)))


class DriftJudge:
    """Judges windows of one model in their order: pure, the same windows give the same findings.

    Events of one device resemble each other, so that N of them say less than N independent ones
    would: how much less is estimated from how the reference windows differ among themselves (the
    design effect), with a margin for its own error.

    Args:
        settings: How drift is looked for.
        inputs: The model's input columns.

    Source: Kolmogorov-Smirnov two-sample test; Kish, "Survey Sampling" (1965), for the design
        effect; Bonferroni over a day's tests.
    """

    def __init__(self, settings: Drift, inputs: Sequence[str]) -> None:
        self._settings = settings
        self._names = (*inputs, "score", "confidence")
        self._inputs = len(inputs)
        self._references: dict[str, _Reference] = {}

    def judge(self, window: int, classes: dict[str, WindowSketch]) -> list[Finding]:
        """One closed window of every device class; those of too few rows are passed over."""
        found: list[Finding] = []
        for name, sketch in sorted(classes.items()):
            if sketch.rows < self._settings.least_rows:
                continue
            reference = self._references.setdefault(name, _Reference())
            if reference.pooled is None:
                self._learn(reference, sketch)
            else:
                found += self._compare(window, name, reference, reference.pooled, sketch)
        return found

    def references(self, model: str) -> list[Reference]:
        """What windows are held against, for `restore` in another life."""
        return [
            Reference(
                model=model,
                device_class=name,
                windows=tuple(told_of(window) for window in found.windows),
                pooled=None if found.pooled is None else told_of(found.pooled),
                spread=tuple(found.spread),
            )
            for name, found in sorted(self._references.items())
        ]

    def restore(self, told: Reference) -> None:
        """Go on with a reference of an earlier life; one of other inputs is passed over.

        Raises:
            ValueError, IndexError: it holds bytes that are none of bins.
        """
        windows = [sketch_of(window) for window in told.windows]
        pooled = None if told.pooled is None else sketch_of(told.pooled)
        every = windows if pooled is None else [*windows, pooled]
        if all(len(sketch.bins) == len(self._names) for sketch in every):
            self._references[told.device_class] = _Reference(windows, pooled, list(told.spread))

    def _learn(self, reference: _Reference, sketch: WindowSketch) -> None:
        reference.windows.append(sketch)
        if len(reference.windows) < self._settings.reference_windows:
            return
        pooled = reference.windows[0]
        for other in reference.windows[1:]:
            pooled = pooled.merged(other)
        reference.pooled = pooled
        reference.spread = [
            design_effect([w.bins[k] for w in reference.windows], pooled.bins[k])
            for k in range(len(self._names))
        ]
        reference.spread.append(_shares_effect([(w.high, w.rows) for w in reference.windows]))
        reference.spread += [
            _shares_effect([(_missing(w, k), w.rows) for w in reference.windows])
            for k in range(self._inputs)
        ]
        reference.windows.clear()

    def _compare(
        self, window: int, name: str, reference: _Reference, pooled: WindowSketch, now: WindowSketch
    ) -> list[Finding]:
        found = []
        for k, quantity in enumerate(self._names):
            counts = int(pooled.bins[k].counts.sum()), int(now.bins[k].counts.sum())
            if not min(counts):
                continue
            distance, index = ks_and_psi(pooled.bins[k], now.bins[k])
            limit = self._limit(*counts, reference.spread[k])
            alarm = distance > limit and index >= self._settings.psi
            found.append(Finding(window, name, quantity, index, distance, limit, alarm))
        shares = [("rate", pooled.high, now.high)]
        shares += [
            (f"missing.{self._names[k]}", _missing(pooled, k), _missing(now, k))
            for k in range(self._inputs)
        ]
        for place, (quantity, before, after) in enumerate(shares, len(self._names)):
            change = abs(after / now.rows - before / pooled.rows)
            # A share is a distribution of two values: its distance is its change.
            limit = self._limit(pooled.rows, now.rows, reference.spread[place])
            found.append(Finding(window, name, quantity, change, change, limit, change > limit))
        return found

    def _limit(self, n: int, m: int, effect: float) -> float:
        """The distance that chance exceeds as often as accepted, of all tests of a day."""
        tests = 86_400 / self._settings.window_s * max(1, len(self._references))
        tests *= len(self._names) + 1 + self._inputs
        alpha = min(0.5, self._settings.false_alarms_per_day / tests)
        return math.sqrt(-math.log(alpha / 2) / 2 * effect * (n + m) / (n * m))


def ks_and_psi(before: Bins, now: Bins) -> tuple[float, float]:
    """Kolmogorov-Smirnov distance, and the population stability index over ten equal bins."""
    one, two = _cumulated(before, now)
    edges = np.searchsorted(one, np.arange(1, 10) / 10)
    shares = [np.diff(np.concatenate([[0.0], c[np.unique(edges)], [1.0]])) for c in (one, two)]
    expected, found = (np.maximum(share, _LEAST_SHARE) for share in shares)
    index = float(((found - expected) * np.log(found / expected)).sum())
    return float(np.abs(one - two).max()), index


def design_effect(windows: Sequence[Bins], pooled: Bins) -> float:
    """How much more windows differ than independent values would make them, at least 1.

    The worst of five quantiles, with twice the standard error of such an estimate added.
    """
    worst = 1.0
    for share in _SHARES.tolist():
        found = []
        for window in windows:
            one, two = _cumulated(pooled, window)
            place = min(int(np.searchsorted(one, share)), len(one) - 1)
            total = int(window.counts.sum())
            found.append((round(float(two[place]) * total), total))
        worst = max(worst, _shares_effect(found))
    return worst


def _shares_effect(windows: Sequence[tuple[int, int]]) -> float:
    """The design effect of a share, of (count, rows) of each window."""
    rows = sum(total for _, total in windows)
    share = sum(count for count, _ in windows) / rows if rows else 0.0
    chance = share * (1 - share)
    if chance <= 0 or len(windows) < 2:
        return 1.0
    ratios = [(c / n - share) ** 2 / (chance / n) for c, n in windows if n]
    freedom = len(ratios) - 1
    return max(1.0, sum(ratios) / freedom * (1 + 2 * math.sqrt(2 / freedom)))


def _cumulated(one: Bins, two: Bins) -> tuple[F64, F64]:
    """Shares up to each bin that either has, of both."""
    level = max(int(one.levels[0]), int(two.levels[0]))
    parts = [raised(one, level), raised(two, level)]
    codes = np.union1d(parts[0].codes, parts[1].codes)
    found = []
    for part in parts:
        counts = np.zeros(len(codes))
        counts[np.searchsorted(codes, part.codes)] = part.counts
        found.append(np.cumsum(counts) / max(1.0, counts.sum()))
    return found[0], found[1]


def _missing(sketch: WindowSketch, place: int) -> int:
    return sketch.rows - int(sketch.bins[place].counts.sum())
