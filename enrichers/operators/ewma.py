"""`ewma`: exponentially weighted mean of an entity's values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.enrichers.operators.frame import Field, Frame, Rows, columns
from headrace.enrichers.runs import scan_blend
from headrace.schemas.batch import F64


class Ewma:
    """``s += alpha * (x - s)``, the first value as it is; a missing value leaves ``s``.

    NaN until the metric's first value. Not computed in closed form: that changes bits with the
    cut of the stream.

    Source: Roberts 1959, "Control chart tests based on geometric moving averages".

    Args:
        places: Its columns of the features.
        metrics: The metric of each.
        alphas: The weight of the newest value of each, 0 to 1.
    """

    def __init__(
        self, places: Sequence[int], metrics: Sequence[int], alphas: Sequence[float]
    ) -> None:
        self._places = columns(places)
        self._metrics = columns(metrics)
        self._alphas = np.array(alphas, np.float64)
        self.fields = (Field("ewma", "<f8", (len(places),), np.nan),)

    def apply(self, rows: Rows, frame: Frame, out: F64) -> None:
        """Move the means."""
        values = frame.metrics[:, self._metrics]
        after = scan_blend(frame.runs, values, rows["ewma"], self._alphas)
        out[:, self._places] = after
        rows["ewma"] = after[frame.runs.ends]
