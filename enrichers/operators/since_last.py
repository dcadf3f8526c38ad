"""`since_last`: how long the entity was silent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.enrichers.operators.frame import NEVER, Field, Frame, Rows, columns
from headrace.schemas.batch import F64


class SinceLast:
    """Seconds of event time since the entity's event before, in log order.

    0 for the entity's first event, and for one that is older than the event before it.

    Args:
        places: Its columns of the features.
    """

    fields = (Field("seen", "<i8", (), NEVER),)

    def __init__(self, places: Sequence[int]) -> None:
        self._places = columns(places)

    def apply(self, rows: Rows, frame: Frame, out: F64) -> None:
        """Compare event times."""
        before = np.empty_like(frame.times)
        before[1:] = frame.times[:-1]
        before[frame.runs.starts] = rows["seen"]
        silent_ms = frame.times - np.where(before == NEVER, frame.times, before)
        out[:, self._places] = np.maximum(silent_ms, 0)[:, None] / 1000.0
        rows["seen"] = frame.times[frame.runs.ends]
