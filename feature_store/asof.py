"""Point-in-time join: to each moment the newest feature row that owes nothing to a later event."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import I64


def newest_as_of(
    entities: NDArray[np.int32],
    times_ms: I64,
    wanted: NDArray[np.int32],
    moments_ms: I64,
    known_ms: I64 | None = None,
    before_ms: I64 | None = None,
) -> I64:
    """For each moment of an entity its newest feature row of that time or before.

    A row may only be taken if every event of its entity that was logged up to it is no later than
    the moment: features are folded in the order of the log, so a row behind an event from the
    future has that event in its averages. Of the rows that remain, the newest by event time, of
    equal ones the last.

    Args:
        entities: int32 (N,), entity of each row; rows of one entity in log order.
        times_ms: int64 (N,), event time of each row.
        wanted: int32 (M,), entity of each moment; -1 is one without rows.
        moments_ms: int64 (M,).
        known_ms: int64 (N,), when each row was logged: then a row counts only from there on, too.
        before_ms: int64 (N,), newest event time of each row's entity in the log before these rows
            begin, which each of them has in its averages.

    Returns:
        int64 (M,), index of the row; -1 where there is none.

    Delivery: pure.
    Cost: a sort of the rows and a binary search for each moment.

    Example:
        >>> entity = np.zeros(3, np.int32)
        >>> times = np.array([10, 30, 20])  # 20 was logged behind 30, and has it in its averages
        >>> newest_as_of(entity, times, np.zeros(3, np.int32), np.array([9, 25, 30])).tolist()
        [-1, 0, 1]
    """
    order = np.argsort(entities, kind="stable")
    owners = entities[order]
    found = np.full(len(moments_ms), -1, np.int64)
    asked = np.argsort(wanted, kind="stable")
    groups, starts = np.unique(wanted[asked], return_index=True)
    stops = [*starts.tolist(), len(asked)][1:]
    for entity, start, stop in zip(groups.tolist(), starts.tolist(), stops, strict=True):
        first, last = np.searchsorted(owners, (entity, entity + 1)).tolist()
        rows, moments = order[first:last], asked[start:stop]
        if not len(rows):
            continue
        own = times_ms[rows]
        reached = np.maximum.accumulate(own)
        newest = np.maximum.accumulate(np.where(own == reached, np.arange(len(rows)), 0))
        open_from = reached
        if known_ms is not None:
            open_from = np.maximum(reached, np.maximum.accumulate(known_ms[rows]))
        if before_ms is not None:
            open_from = np.maximum(open_from, np.maximum.accumulate(before_ms[rows]))
        upto = np.searchsorted(open_from, moments_ms[moments], side="right") - 1
        there = upto >= 0
        found[moments[there]] = rows[newest[upto[there]]]
    return found
