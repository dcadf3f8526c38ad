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

    def fold(self, tiles: F64) -> F64:
        """Merge tiles, the oldest first, and no other way: floats do not reassociate.

        Args:
            tiles: float64 (B, S, W), B tiles of each of S windows, oldest first; B >= 0.

        Returns:
            float64 (P, S, K), the statistic's own merging form of each window.
        """

    def finish(self, rest: F64, newest: F64, out: F64) -> None:
        """Merge each event's newest tile into the rest of its window, and write the columns.

        Args:
            rest: (P, N, K), of `fold`.
            newest: float64 (N, W).
            out: float64 (N, F), the features.
        """
