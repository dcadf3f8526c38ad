"""`count` and `sum` over a window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.enrichers.operators.frame import columns
from headrace.enrichers.runs import Runs, scan
from headrace.schemas.batch import F64


class Totals:
    """Number of events, and the sum of each metric's values; 0 where there are none.

    A sum is that of each tile in log order, tiles then added oldest first.

    Args:
        counts: Columns of the features that hold the number of events.
        sums: Column and metric of each sum.
    """

    name = "totals"

    def __init__(self, counts: Sequence[int], sums: Sequence[tuple[int, int]]) -> None:
        self._counts = columns(counts)
        self._sums = columns([place for place, _ in sums])
        self._metrics = columns([metric for _, metric in sums])
        self.blank = np.zeros(1 + len(sums))

    def scan(self, runs: Runs, metrics: F64, carry: F64) -> F64:
        """The tile after each event: events, then sums."""
        steps = np.ones((len(metrics), len(self.blank)))
        steps[:, 1:] = np.nan_to_num(metrics[:, self._metrics], nan=0.0)
        return scan(np.add, runs, steps, carry)

    def fold(self, tiles: F64) -> F64:
        """Add tiles; ``accumulate`` is sequential, ``sum`` is not."""
        start = np.zeros((1, *tiles.shape[1:]))
        return np.add.accumulate(np.concatenate((start, tiles)), axis=0)[-1:]

    def finish(self, rest: F64, newest: F64, out: F64) -> None:
        """Write counts and sums."""
        window = rest[0] + newest
        out[:, self._counts] = window[:, :1]
        out[:, self._sums] = window[:, 1:]
