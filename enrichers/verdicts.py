"""Why an event is dead: the first fault of each, found for a whole column at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CODES = (
    "record.empty",
    "record.size",
    "json.invalid",
    "json.depth",
    "event.type",
    "entity.missing",
    "entity.size",
    "id.size",
    "key.missing",
    "key.mismatch",
    "time.missing",
    "time.invalid",
    "time.future",
    "metric.missing",
    "metric.range",
)
"""Dead letter codes of decoding, in the order in which they are looked for."""


class Verdicts:
    """One verdict for each of N events; the first fault that is marked stands.

    Args:
        count: N.
    """

    def __init__(self, count: int) -> None:
        self._faults = np.zeros(count, np.int8)

    def mark(self, code: str, where: NDArray[np.bool_]) -> None:
        """Mark the events where `where` (bool (N,)) is true and no fault was found before."""
        if where.any():
            self._faults[where & (self._faults == 0)] = CODES.index(code) + 1

    @property
    def alive(self) -> NDArray[np.bool_]:
        """No fault was found: bool (N,)."""
        alive: NDArray[np.bool_] = self._faults == 0
        return alive

    def dead(self) -> dict[int, str]:
        """Code of every event with a fault."""
        rows = np.flatnonzero(self._faults)
        return {row: CODES[self._faults[row] - 1] for row in rows.tolist()}
