"""`delta` and `rate`: a value against the same entity's value before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from headrace.enrichers.operators.frame import NEVER, Field, Frame, Rows
from headrace.enrichers.runs import Runs
from headrace.schemas.batch import F64, I64

T = TypeVar("T", bound=np.generic)


class Change:
    """Difference to the value before, and that difference per second.

    ``delta = x - x'`` and ``rate = (x - x') / ((t - t') / 1000)`` with ``x'`` the metric's last
    present value of the entity and ``t'`` its event time, milliseconds. Both are 0 for the first
    value; `rate` is 0 where ``t <= t'`` (out of order). Both are NaN where the event lacks the
    metric.

    Args:
        deltas: Column of the features and its metric, for each `delta`.
        rates: Likewise for each `rate`.
    """

    def __init__(self, deltas: Sequence[tuple[int, int]], rates: Sequence[tuple[int, int]]) -> None:
        self._metrics = sorted({metric for _, metric in (*deltas, *rates)})
        self._deltas = [(place, self._metrics.index(metric)) for place, metric in deltas]
        self._rates = [(place, self._metrics.index(metric)) for place, metric in rates]
        shape = (len(self._metrics),)
        last = Field("last", "<f8", shape, np.nan)
        self.fields = (last, Field("last_time", "<i8", shape, NEVER)) if rates else (last,)

    def apply(self, rows: Rows, frame: Frame, out: F64) -> None:
        """Compare each value with the one before."""
        runs, values = frame.runs, frame.metrics[:, self._metrics]
        latest, before = _present(runs, ~np.isnan(values))
        last = _pick(before, values, rows["last"][runs.group])
        delta = np.where(np.isnan(last) & ~np.isnan(values), 0.0, values - last)
        for place, column in self._deltas:
            out[:, place] = delta[:, column]
        if self._rates:
            times = np.broadcast_to(frame.times[:, None], values.shape)
            last_times = _pick(before, times, rows["last_time"][runs.group])
            elapsed_s = (times - np.where(last_times == NEVER, times, last_times)) / 1000.0
            moved = elapsed_s > 0
            rate = np.where(moved, delta / np.where(moved, elapsed_s, 1.0), 0.0)
            rate[np.isnan(delta)] = np.nan
            for place, column in self._rates:
                out[:, place] = rate[:, column]
            rows["last_time"] = _pick(latest[runs.ends], times, rows["last_time"])
        rows["last"] = _pick(latest[runs.ends], values, rows["last"])


def _present(runs: Runs, present: NDArray[np.bool_]) -> tuple[I64, I64]:
    """Positions of the group's last present value up to each event, and before it; -1 for none."""
    marked = np.where(present, np.arange(len(present))[:, None], -1)
    latest = np.maximum.accumulate(marked, axis=0)
    latest[latest < runs.starts[runs.group][:, None]] = -1
    before = np.empty_like(latest)
    before[1:] = latest[:-1]
    before[runs.starts] = -1
    return latest, before


def _pick(at: I64, values: NDArray[T], otherwise: NDArray[T]) -> NDArray[T]:
    """Column by column the value at each position, and `otherwise` where that is -1."""
    return np.where(at < 0, otherwise, np.take_along_axis(values, np.maximum(at, 0), axis=0))
