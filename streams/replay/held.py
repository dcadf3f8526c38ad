"""Rows computed anew, held until what was recorded of them has come by."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import I64
from headrace.schemas.block import FeatureBlock

KEPT_ROWS = 1 << 18
"""Rows held of one partition: what is published again after a restart is compared again as long as
it is no further back."""

What = Literal["features", "predictions"]


_NONE = np.empty(0, np.int64)


@dataclass(slots=True)
class Row:
    """A block computed anew.

    Attributes:
        block: Its rows.
        features: bool (N,), a recorded feature row was compared with it.
        predictions: bool (N,), a recorded prediction was.
        made_by: Pipeline digest of the recorded block that was compared last; empty before.
    """

    block: FeatureBlock
    features: NDArray[np.bool_]
    predictions: NDArray[np.bool_]
    made_by: str = ""


class Met(NamedTuple):
    """Recorded rows and the computed ones they belong to.

    Attributes:
        row: Computed block, and what was compared with it.
        places: int64 (n,), rows of it.
        rows: int64 (n,), the recorded rows, in the same order.
        again: How many of them had been met before.
    """

    row: Row
    places: I64
    rows: I64
    again: int


@dataclass(slots=True)
class Held:
    """Computed blocks of one partition, offsets ascending.

    Attributes:
        upto: Everything below this offset is computed.
        floor: Nothing below this offset is held any more.
    """

    floor: int
    upto: int
    _rows: deque[Row] = field(default_factory=deque)
    _count: int = 0
    _met: dict[What, I64] = field(default_factory=lambda: {"features": _NONE, "predictions": _NONE})

    def add(self, blocks: list[FeatureBlock], upto: int) -> list[Row]:
        """Hold more; what is let go of for it."""
        for block in blocks:
            features = np.isin(block.offsets, self._met["features"])
            predictions = np.isin(block.offsets, self._met["predictions"])
            self._rows.append(Row(block, features, predictions))
            self._count += len(block)
        self.upto = upto
        gone = []
        while self._count > KEPT_ROWS and len(self._rows) > 1:
            gone.append(self._let_go())
        return gone

    def drop_from(self, offset: int) -> int:
        """Forget what was computed of `offset` and beyond, and how many: it is done otherwise.

        What was met of it stays met: it was served, by whatever definition.
        """
        before = self._count
        while self._rows and self._rows[-1].block.offsets[-1] >= offset:
            last = self._rows.pop()
            self._count -= len(last.block)
            keep = int(last.block.offsets.searchsorted(offset))
            self._keep_met("features", last.block.offsets[keep:][last.features[keep:]])
            self._keep_met("predictions", last.block.offsets[keep:][last.predictions[keep:]])
            if keep:
                block = last.block.slice(0, keep)
                marks = last.features[:keep], last.predictions[:keep]
                self._rows.append(Row(block, *marks, last.made_by))
                self._count += keep
        self.upto = min(self.upto, offset)
        return before - self._count

    def _keep_met(self, what: What, offsets: I64) -> None:
        known = self._met[what]
        self._met[what] = np.union1d(known[known >= self.floor], offsets)

    def all_met(self) -> bool:
        """Every row that is held was compared with a feature row and a prediction."""
        return all(row.features.all() and row.predictions.all() for row in self._rows)

    def drain(self) -> list[Row]:
        """Let go of everything."""
        return [self._let_go() for _ in range(len(self._rows))]

    def meet(self, offsets: I64, what: What) -> tuple[list[Met], I64]:
        """Computed rows of recorded offsets, each marked as met.

        Args:
            offsets: int64 (N,), ascending.
            what: Of which record.

        Returns:
            Blocks that hold some of them, and which of the N rows none holds.
        """
        found = []
        unmet = np.ones(len(offsets), np.bool_)
        for row in self._rows:
            own = row.block.offsets
            first, last = np.searchsorted(offsets, (own[0], own[-1] + 1))
            if first == last:
                continue
            places = own.searchsorted(offsets[first:last])
            same = own[places] == offsets[first:last]
            rows, places = np.flatnonzero(same) + first, places[same]
            marks = row.features if what == "features" else row.predictions
            found.append(Met(row, places, rows, int(marks[places].sum())))
            marks[places] = True
            unmet[rows] = False
        return found, np.flatnonzero(unmet)

    def _let_go(self) -> Row:
        row = self._rows.popleft()
        self._count -= len(row.block)
        self.floor = int(row.block.offsets[-1]) + 1
        return row
