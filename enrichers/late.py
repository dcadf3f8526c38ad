"""The watermark, and which events come too late."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headrace.enrichers.runs import Runs, scan
from headrace.schemas.batch import I64

BEGINNING = -(2**62)
"""The watermark before the first event; far enough from the ends of int64 to subtract from."""


def watermarks(times: I64, latest: I64, watermark: int) -> I64:
    """The watermark before each event, and after the last.

    It is the largest event time of the partition so far, none counted as later than the broker's
    time of its record: a device whose clock is ahead makes no other device's events late.

    Args:
        times: int64 (N,), event times in log order, milliseconds since 1970.
        latest: int64 (N,), what each counts as at most: its broker time, or itself where event
            times do not follow the broker's (`Input.follows_broker`).
        watermark: Before the first of them.

    Returns:
        int64 (N + 1,).

    Example:
        >>> watermarks(np.array([5, 900, 7]), np.array([10, 20, 30]), BEGINNING)[1:].tolist()
        [5, 20, 20]
    """
    return np.maximum.accumulate(np.concatenate(([watermark], np.minimum(times, latest))))


def split_late(
    times: I64, latest: I64, watermark: int, lateness_ms: int
) -> tuple[NDArray[np.bool_], I64, int]:
    """Which events are late, judged each by the events before it alone.

    An event is late when it is older than the watermark before it by more than the allowed
    lateness.

    Args:
        times: int64 (N,), event times in log order, milliseconds since 1970.
        latest: int64 (N,), what each counts as at most, see `watermarks`.
        watermark: Before the first of them.
        lateness_ms: Allowed lateness, milliseconds.

    Returns:
        bool (N,), is late; int64 (N,), watermark before each event; and the watermark after.

    Example:
        >>> times = np.array([0, 100, 69, 70])
        >>> split_late(times, times + 200, BEGINNING, 30)[0].tolist()
        [False, False, True, False]
    """
    reached = watermarks(times, latest, watermark)
    before = reached[:-1]
    return times < before - lateness_ms, before, int(reached[-1])


def behind_own(times: I64, runs: Runs, newest: I64, lateness_ms: int) -> NDArray[np.bool_]:
    """Which events are older than their own device's newest by more than the allowed lateness.

    Only a device whose clock was ahead and was set back has such events while the partition's
    watermark lets them pass; the tiles of its windows do not reach that far.

    Args:
        times: int64 (N,), event times, device by device, each device's in log order.
        runs: The events of each device.
        newest: int64 (G,), newest event time of each device before; `NEVER` where there is none.
        lateness_ms: Allowed lateness, milliseconds.

    Returns:
        bool (N,).
    """
    carry = newest.astype(np.float64)[:, None]  # times to the year 9999 are exact in a double
    after = scan(np.maximum, runs, times.astype(np.float64)[:, None], carry)
    behind: NDArray[np.bool_] = times < runs.before(after, carry)[:, 0] - lateness_ms
    return behind
