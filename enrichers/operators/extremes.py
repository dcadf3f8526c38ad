"""`min` and `max` over a window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.enrichers.runs import Runs, scan
from headrace.schemas.batch import F64


class Extremes:
    """Smallest, or largest, present value of each metric; NaN where there is none.

    Args:
        name: ``min`` or ``max``.
        columns: Column of the features and metric of each.
    """

    def __init__(self, name: str, columns: Sequence[tuple[int, int]]) -> None:
        self.name = name
        self._places = [place for place, _ in columns]
        self._metrics = [metric for _, metric in columns]
        self._choose = np.minimum if name == "min" else np.maximum
        self._none = np.inf if name == "min" else -np.inf
        self.blank = np.full(len(self._places), self._none)

    def scan(self, runs: Runs, metrics: F64, carry: F64) -> F64:
        """The tile's extreme after each event."""
        values = metrics[:, self._metrics]
        return scan(self._choose, runs, np.where(np.isnan(values), self._none, values), carry)

    def open(self, tiles: F64) -> F64:
        """Extremes merge as they are."""
        return tiles

    def merge(self, older: F64, newer: F64) -> F64:
        """The extreme of both."""
        merged: F64 = self._choose(older, newer)
        return merged

    def finish(self, window: F64, out: F64) -> None:
        """Write the extremes."""
        out[:, self._places] = np.where(window == self._none, np.nan, window)
