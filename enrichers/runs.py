"""Runs: the events of each group in log order, and recurrences along them, bit for bit.

A recurrence along an entity's time is computed rank by rank: the first event of every group at
once, then every second one, and so on. Groups lie by falling size, so that each step is a few
calls on slices. Each number goes through the same operations in the same order as it would event
by event, whatever the batch holds beside it: no sum over time is ever reassociated.

Where few groups are left (a hot key), the rest of each is done alone: sums and extremes by
``ufunc.accumulate``, which is sequential, other recurrences on Python floats. Same operations, same
order, same bits; only the size decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import F64, I64


@dataclass(slots=True)
class Runs:
    """G groups of N events laid out one after the other, each in log order, none empty.

    Attributes:
        starts: int64 (G,), position of each group's first event.
        sizes: int64 (G,), its number of events.
        group: int64 (N,), the group of each position.
        by_size: int64 (G,), the groups by falling size.
        widths: How many groups have more than r events, for each rank r.
        bases: Where rank r begins in the layout by rank.
        place: int64 (N,), each position's place in the layout by rank.
    """

    starts: I64
    sizes: I64
    group: I64 = field(init=False)
    by_size: I64 = field(init=False)
    widths: list[int] = field(init=False)
    bases: I64 = field(init=False)
    place: I64 = field(init=False)

    def __post_init__(self) -> None:
        groups = len(self.sizes)
        self.group = np.repeat(np.arange(groups), self.sizes)
        self.by_size = np.argsort(-self.sizes, kind="stable")
        widths = groups - np.cumsum(np.bincount(self.sizes))[:-1]
        self.widths = widths.tolist()
        self.bases = np.concatenate(([0], np.cumsum(widths)[:-1]))
        column = np.empty(groups, np.int64)
        column[self.by_size] = np.arange(groups)
        rank = np.arange(len(self.group)) - self.starts[self.group]
        self.place = self.bases[rank] + column[self.group]

    @classmethod
    def between(cls, edges: NDArray[np.bool_]) -> Runs:
        """Runs of N events, from where a new one begins (bool (N,), the first true)."""
        starts = np.flatnonzero(edges)
        return cls(starts, np.diff(np.append(starts, len(edges))))

    @property
    def ends(self) -> I64:
        """int64 (G,), position of each group's last event."""
        return self.starts + self.sizes - 1

    def before(self, after: F64, carry: F64) -> F64:
        """The value before each event, from the values after each and those before the first.

        Args:
            after: (N, K).
            carry: (G, K).
        """
        shifted = np.empty_like(after)
        shifted[1:] = after[:-1]
        shifted[self.starts] = carry
        return shifted

    def tail(self, column: int, rank: int) -> I64:
        """Places, from `rank` on, of the group in this column of the layout by rank."""
        return self.bases[rank : self.sizes[self.by_size[column]]] + column


HOT_RANKS_PER_GROUP = 4
"""A group is finished alone when at least this many ranks are left for each group that is."""
HOT_CELLS = 48
"""Likewise on Python floats when a rank has fewer numbers than this: one costs about 60 ns there,
while a rank costs about 3 µs whatever it holds."""


def scan(ufunc: np.ufunc, runs: Runs, values: F64, carry: F64) -> F64:
    """Running ``ufunc`` (``add``, ``minimum`` or ``maximum``) along each group, carry first.

    Args:
        ufunc: Applied to (so far, next).
        runs: The groups.
        values: float64 (N, K), without NaN.
        carry: float64 (G, K), what stands before each group's first event.

    Returns:
        float64 (N, K), the running value after each event.

    Example:
        >>> runs = Runs(np.array([0, 2]), np.array([2, 1]))
        >>> scan(np.add, runs, np.array([[1.0], [2.0], [5.0]]), np.array([[10.0], [0.0]])).ravel()
        array([11., 13.,  5.])
    """
    cells, widths, bases = _by_rank(runs, values)
    first = cells[: widths[0]]
    ufunc(carry[runs.by_size], first, out=first)
    for rank in range(1, len(widths)):
        width, base, last = widths[rank], bases[rank], bases[rank - 1]
        if HOT_RANKS_PER_GROUP * width <= len(widths) - rank:
            for column in range(width):
                rest = runs.tail(column, rank - 1)
                cells[rest] = ufunc.accumulate(cells[rest], axis=0)
            break
        now = cells[base : base + width]
        ufunc(cells[last : last + width], now, out=now)
    return cells[runs.place]


def scan_blend(runs: Runs, values: F64, carry: F64, alpha: F64) -> F64:
    """Exponentially weighted mean along each group: ``s += alpha * (x - s)``, first ``s = x``.

    A NaN in `values` leaves ``s`` as it is; a NaN in `carry` means that there is none yet.

    Args:
        runs: The groups.
        values: float64 (N, K).
        carry: float64 (G, K).
        alpha: float64 (K,).

    Returns:
        float64 (N, K), ``s`` after each event.
    """

    def step(s: F64, x: F64) -> F64:
        moved = s + alpha * (x - s)
        return np.where(np.isnan(s), x, np.where(np.isnan(x), s, moved))

    def plain_step(s: F64, x: F64) -> F64:
        return s + alpha * (x - s)

    def tail(s: float, xs: list[float], column: int) -> list[float]:
        a = weights[column]
        after = []
        for x in xs:
            if x == x:
                s = s + a * (x - s) if s == s else x
            after.append(s)
        return after

    weights = alpha.tolist()
    later = step if np.isnan(values).any() else plain_step
    return _recur(runs, values, carry, step, later, tail)


def scan_decay(runs: Runs, values: F64, carry: F64, keep: F64) -> F64:
    """Decaying sum along each group: ``v = keep * (v + q)``; a NaN ``q`` leaves ``v`` as it is.

    Args:
        runs: The groups.
        values: float64 (N, K), the ``q``.
        carry: float64 (G, K), without NaN.
        keep: float64 (K,).

    Returns:
        float64 (N, K), ``v`` after each event.
    """

    def step(v: F64, q: F64) -> F64:
        return np.where(np.isnan(q), v, keep * (v + q))

    def tail(v: float, qs: list[float], column: int) -> list[float]:
        k = kept[column]
        after = []
        for q in qs:
            if q == q:
                v = k * (v + q)
            after.append(v)
        return after

    kept = keep.tolist()
    return _recur(runs, values, carry, step, step, tail)


Step = Callable[[F64, F64], F64]


def _recur(
    runs: Runs,
    values: F64,
    carry: F64,
    first: Step,
    later: Step,
    tail: Callable[[float, list[float], int], list[float]],
) -> F64:
    """A recurrence along each group: `first` at rank 0, then `later`; `tail` for what is hot."""
    cells, widths, bases = _by_rank(runs, values)
    so_far = first(carry[runs.by_size], cells[: widths[0]])
    cells[: widths[0]] = so_far
    for rank in range(1, len(widths)):
        width, base = widths[rank], bases[rank]
        if width * cells.shape[1] < HOT_CELLS and len(widths) - rank >= HOT_RANKS_PER_GROUP:
            for column in range(width):
                rest = runs.tail(column, rank)
                for k in range(cells.shape[1]):
                    cells[rest, k] = tail(float(so_far[column, k]), cells[rest, k].tolist(), k)
            break
        so_far = later(so_far[:width], cells[base : base + width])
        cells[base : base + width] = so_far
    return cells[runs.place]


def _by_rank(runs: Runs, values: F64) -> tuple[F64, list[int], list[int]]:
    cells = np.empty(values.shape)
    cells[runs.place] = values
    return cells, runs.widths, runs.bases.tolist()
