"""Columns to operators, and the fixed-width row that operators keep of each entity."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.enrichers.operators.change import Change
from headrace.enrichers.operators.clock import ClockError
from headrace.enrichers.operators.ewma import Ewma
from headrace.enrichers.operators.extremes import Extremes
from headrace.enrichers.operators.frame import NEVER, Field, Operator
from headrace.enrichers.operators.moments import Moments
from headrace.enrichers.operators.raw import Raw
from headrace.enrichers.operators.since_last import SinceLast
from headrace.enrichers.operators.statistic import Statistic
from headrace.enrichers.operators.totals import Totals
from headrace.enrichers.operators.window import Window
from headrace.enrichers.operators.zscore import Zscore
from headrace.schemas.views import WINDOW_OPS, Column

FORMAT = 2
"""Raised when the meaning of a stored row changes without its fields changing."""

ENTITY_OVERHEAD_BYTES = 200
"""An entity beside its row: its key as text (50 to 100 bytes) and its place in the index (about 100
after growth)."""


def operators_of(columns: Sequence[Column], lateness_ms: int) -> list[Operator]:
    """The operators that compute these columns, sharing what they can.

    Args:
        columns: Feature columns, by place.
        lateness_ms: Allowed lateness, milliseconds: windows keep tiles for it.
    """
    of: dict[str, list[tuple[int, Column]]] = {}
    for place, column in enumerate(columns):
        of.setdefault(column.op, []).append((place, column))
    found: list[Operator] = []
    if "raw" in of:
        found.append(Raw(*_places_and_metrics(of["raw"])))
    if "delta" in of or "rate" in of:
        found.append(Change(_pairs(of.get("delta", [])), _pairs(of.get("rate", []))))
    if "ewma" in of:
        found.append(Ewma(*_places_and_metrics(of["ewma"]), [c.alpha for _, c in of["ewma"]]))
    if "zscore" in of:
        chosen = of["zscore"]
        weights, waits = [c.alpha for _, c in chosen], [c.warm_up for _, c in chosen]
        found.append(Zscore(*_places_and_metrics(chosen), weights, waits))
    if "since_last" in of:
        found.append(SinceLast([place for place, _ in of["since_last"]]))
    if "clock_error" in of:
        found.append(ClockError([place for place, _ in of["clock_error"]]))
    return [*found, *_windows(of, lateness_ms)]


def _windows(of: dict[str, list[tuple[int, Column]]], lateness_ms: int) -> list[Operator]:
    by_window: dict[tuple[int, int], dict[str, list[tuple[int, int]]]] = {}
    for op in sorted(WINDOW_OPS & of.keys()):
        for place, column in of[op]:
            key = (column.window_ms, column.tile_ms)
            by_window.setdefault(key, {}).setdefault(op, []).append((place, column.metric))
    return [
        Window(
            f"w{window_ms}/{tile_ms}",
            window_ms=window_ms,
            tile_ms=tile_ms,
            lateness_ms=lateness_ms,
            statistics=_statistics(ops),
        )
        for (window_ms, tile_ms), ops in by_window.items()
    ]


def _statistics(ops: dict[str, list[tuple[int, int]]]) -> list[Statistic]:
    found: list[Statistic] = []
    if "count" in ops or "sum" in ops:
        found.append(Totals([place for place, _ in ops.get("count", [])], ops.get("sum", [])))
    if "mean" in ops or "std" in ops:
        found.append(Moments(ops.get("mean", []), ops.get("std", [])))
    return [*found, *(Extremes(op, ops[op]) for op in ("min", "max") if op in ops)]


def _pairs(columns: list[tuple[int, Column]]) -> list[tuple[int, int]]:
    return [(place, column.metric) for place, column in columns]


def _places_and_metrics(columns: list[tuple[int, Column]]) -> tuple[list[int], list[int]]:
    return [place for place, _ in columns], [column.metric for _, column in columns]


class Layout:
    """The row kept of each entity: its newest feature row, then the operators' fields.

    Attributes:
        dtype: Structured, packed, little-endian; a multiple of 8 bytes.
        blank: Structured (1,), the row of an entity without events.
        digest: 16 hex digits over fields, columns and metrics: rows of another digest mean
            something else.

    Args:
        columns: Feature columns, by place.
        metrics: Metric names, by column.
        lateness_ms: Allowed lateness, milliseconds.
        operators: What `operators_of` made of them.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        metrics: Sequence[str],
        lateness_ms: int,
        operators: Sequence[Operator],
    ) -> None:
        fields = [
            Field("row_time", "<i8", (), NEVER),
            Field("row_offset", "<i8", (), -1),
            Field("row", "<f8", (len(columns),), np.nan),
            *(field for operator in operators for field in operator.fields),
        ]
        described: list[Any] = [(field.name, field.kind, field.shape) for field in fields]
        self.dtype = np.dtype(described)
        self.blank = np.zeros(1, self.dtype)
        for field in fields:
            self.blank[field.name] = field.blank
        content = repr((FORMAT, described, list(columns), list(metrics), lateness_ms))
        self.digest = hashlib.blake2b(content.encode(), digest_size=8).hexdigest()

    @property
    def bytes_per_entity(self) -> int:
        """Memory one entity takes in a partition's state, bytes: its row and about 200 more.

        Measured with a million entities of 12 characters and rows of 112 bytes: 272. The array
        grows by doubling, so twice the rows may be reserved; pages never written take no memory.

        A window's share of the row is (n + ceil(lateness / tile)) tiles of 8 bytes and, for each
        metric, 32 for `mean` and `std` together and 8 for each of `sum`, `min`, `max`: tiles much
        shorter than the allowed lateness are what makes rows large.
        """
        return self.dtype.itemsize + ENTITY_OVERHEAD_BYTES
