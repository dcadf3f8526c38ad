"""`min` and `max` over a window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.enrichers.operators.frame import columns
from headrace.enrichers.runs import Runs, scan
from headrace.schemas.batch import F64


class Extremes:
    """Smallest, or largest, present value of each metric; NaN where there is none.

    Args:
        name: ``min`` or ``max``.
        chosen: Column of the features and metric of each.
    """

    def __init__(self, name: str, chosen: Sequence[tuple[int, int]]) -> None:
        self.name = name
        self._places = columns([place for place, _ in chosen])
        self._metrics = columns([metric for _, metric in chosen])
        self._choose = np.minimum if name == "min" else np.maximum
        self._none = np.inf if name == "min" else -np.inf
        self.blank = np.full(len(chosen), self._none)

    def scan(self, runs: Runs, metrics: F64, carry: F64) -> F64:
        """The tile's extreme after each event."""
        values = metrics[:, self._metrics]
        return scan(self._choose, runs, np.where(np.isnan(values), self._none, values), carry)

    def fold(self, tiles: F64) -> F64:
        """The extreme of all tiles; in whichever order, it is the same number."""
        extreme: F64 = self._choose.reduce(tiles, axis=0, initial=self._none)
        return extreme[None]

    def finish(self, rest: F64, newest: F64, out: F64) -> None:
        """Write the extremes."""
        window = self._choose(rest[0], newest)
        out[:, self._places] = np.where(window == self._none, np.nan, window)
