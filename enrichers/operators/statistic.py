"""What a window keeps in each tile: numbers that grow by events and merge."""

from __future__ import annotations

from typing import Protocol

from headrace.enrichers.runs import Runs
from headrace.schemas.batch import F64


class Statistic(Protocol):
    """One statistic of one window, over some metrics, kept per tile.

    Attributes:
        name: Its field's name.
        blank: float64 (W,), a tile without events; W numbers a tile.
    """

    name: str
    blank: F64

    def scan(self, runs: Runs, metrics: F64, carry: F64) -> F64:
        """The tile after each event.

        Args:
            runs: Events of each (entity, tile).
            metrics: float64 (N, M), NaN is missing.
            carry: float64 (G, W), the tiles before.

        Returns:
            float64 (N, W).
        """

    def open(self, tiles: F64) -> F64:
        """Tiles (S, W) in the form that merges, float64 (S, V)."""

    def merge(self, older: F64, newer: F64) -> F64:
        """Two stretches of time in merging form as one; tiles merge oldest first."""

    def finish(self, window: F64, out: F64) -> None:
        """Write the columns of `out` (N, F) from windows in merging form (N, V)."""
