"""`clock_error`: by how much the device's clock differs from the broker's, by its events."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.enrichers.operators.frame import Field, Frame, Rows, columns
from headrace.enrichers.runs import Runs, scan
from headrace.schemas.batch import F64

SPAN_MS = 600_000
"""What was seen is forgotten after one to two spans: a clock that drifts a second a day is told to
within 14 ms, and 20 minutes after a clock was set the estimate is that of the new setting."""

UNKNOWN = np.inf


class ClockError:
    """Seconds by which the device's clock is behind the broker's; negative where it is ahead.

    The smallest difference of broker time and event time in this span of broker time and the one
    before. A difference is the clock's error and the time the event took, which is never negative:
    what a network or a buffer adds goes into larger differences, and the smallest is the error and
    the shortest way. Late, repeated and dead events have no part in it, so one corrupt time moves
    it by at most `input.max_skew_s`.

    Source: Mills 1991, "Internet time synchronization" (clock filter: the sample of least delay).

    Args:
        places: Its columns of the features.
    """

    fields = (
        Field("clock.span", "<i8", (), 0),
        Field("clock.now", "<f8", (), UNKNOWN),
        Field("clock.before", "<f8", (), UNKNOWN),
    )

    def __init__(self, places: Sequence[int]) -> None:
        self._places = columns(places)

    def apply(self, rows: Rows, frame: Frame, out: F64) -> None:
        """Take the smallest difference along each device's spans."""
        runs = frame.runs
        held = rows["clock.span"]
        logged = (frame.log_times // SPAN_MS).astype(np.float64)[:, None]
        # A broker that stamps what producers say may go back: such a record counts as of now.
        span = scan(np.maximum, runs, logged, held.astype(np.float64)[:, None])[:, 0]
        edges = np.ones(len(span), np.bool_)
        edges[1:] = (span[1:] != span[:-1]) | (runs.group[1:] != runs.group[:-1])
        parts = Runs.between(edges)
        owner, at = runs.group[parts.starts], span[parts.starts]
        gone_by = at - held[owner]
        first = np.isin(parts.starts, runs.starts)
        carry = np.where(first & (gone_by == 0), rows["clock.now"][owner], UNKNOWN)
        differences = (frame.log_times - frame.times).astype(np.float64)[:, None]
        now = scan(np.minimum, parts, differences, carry[:, None])[:, 0]
        before = np.full(len(owner), UNKNOWN)
        before[1:] = np.where(at[1:] - at[:-1] == 1, now[parts.ends[:-1]], UNKNOWN)
        kept = np.where(gone_by == 0, rows["clock.before"][owner], UNKNOWN)
        before[first] = np.where(gone_by == 1, rows["clock.now"][owner], kept)[first]
        error_ms = np.minimum(now, before[parts.group])
        out[:, self._places] = error_ms[:, None] / 1000.0
        last = parts.group[runs.ends]
        rows["clock.span"], rows["clock.now"] = at[last], now[runs.ends]
        rows["clock.before"] = before[last]


RIGHT_S = 1.0
"""A clock that differs by no more is right: networks and buffers take that long."""


def clock_classes(rows: Rows) -> dict[str, int]:
    """How many devices' clocks are ahead of the broker's, right, or behind, by `RIGHT_S`.

    Args:
        rows: Structured (E,); with no field of `ClockError` the answer is empty.

    Example:
        >>> rows = np.array([(-4000.0, -3000.0), (30.0, np.inf)],
        ...     [("clock.now", "<f8"), ("clock.before", "<f8")])
        >>> clock_classes(rows)
        {'ahead': 1, 'right': 1, 'behind': 0}
    """
    if "clock.now" not in (rows.dtype.names or ()):
        return {}
    seconds = np.minimum(rows["clock.now"], rows["clock.before"]) / 1000.0
    ahead, behind = int((seconds < -RIGHT_S).sum()), int((seconds > RIGHT_S).sum())
    return {"ahead": ahead, "right": len(rows) - ahead - behind, "behind": behind}
