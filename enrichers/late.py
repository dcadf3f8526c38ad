"""The watermark, and which events come too late."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import I64

BEGINNING = -(2**62)
"""The watermark before the first event; far enough from the ends of int64 to subtract from."""


def split_late(times: I64, watermark: int, lateness_ms: int) -> tuple[NDArray[np.bool_], I64, int]:
    """Which events are late, judged each by the events before it alone.

    The watermark is the largest event time of the partition so far. An event is late when it is
    older than the watermark before it by more than the allowed lateness.

    Args:
        times: int64 (N,), event times in log order, milliseconds since 1970.
        watermark: Before the first of them.
        lateness_ms: Allowed lateness, milliseconds.

    Returns:
        bool (N,), is late; int64 (N,), watermark before each event; and the watermark after.

    Example:
        >>> split_late(np.array([0, 100, 69, 70]), BEGINNING, 30)[0].tolist()
        [False, False, True, False]
    """
    reached = np.maximum.accumulate(np.concatenate(([watermark], times)))
    before = reached[:-1]
    return times < before - lateness_ms, before, int(reached[-1])
