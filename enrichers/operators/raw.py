"""`raw`: the value as it came."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.enrichers.operators.frame import Field, Frame, Rows, columns
from headrace.schemas.batch import F64


class Raw:
    """The metric itself; NaN where the event lacks it. Keeps nothing.

    Args:
        places: Its columns of the features.
        metrics: The metric of each.
    """

    fields: tuple[Field, ...] = ()

    def __init__(self, places: Sequence[int], metrics: Sequence[int]) -> None:
        self._places = columns(places)
        self._metrics = columns(metrics)

    def apply(self, rows: Rows, frame: Frame, out: F64) -> None:
        """Copy the metrics."""
        out[:, self._places] = frame.metrics[:, self._metrics]
