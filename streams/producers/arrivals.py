"""When which device of a fleet reads: rates that change with time, devices that differ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from headrace.streams.producers.chance import F64, I64
from headrace.streams.producers.profiles import Profile

Pattern = Literal["steady", "bursty", "diurnal"]

BURST = 10.0
"""Times the steady rate, in a burst."""
BURST_S = 30.0
BURST_EVERY_S = 120.0
"""A burst begins `BURST_S` into each such time."""
DAY_S = 600.0
"""Length of the day of the diurnal pattern; a real one would outlast most runs."""
NIGHT = 0.1
"""Rate at night, against that at noon."""
GOLDEN = 0.6180339887498949


def level(pattern: Pattern, at_s: float) -> float:
    """Rate against the steady one, `at_s` seconds into the run.

    Example:
        >>> [level("bursty", at) for at in (0.0, 30.0, 59.9, 60.0)]
        [1.0, 10.0, 10.0, 1.0]
        >>> round(level("diurnal", 0.0), 3), round(level("diurnal", 300.0), 3)
        (0.1, 1.0)
    """
    if pattern == "bursty":
        return BURST if BURST_S <= at_s % BURST_EVERY_S < 2 * BURST_S else 1.0
    if pattern == "diurnal":
        return NIGHT + (1 - NIGHT) * (0.5 - 0.5 * math.cos(2 * math.pi * at_s / DAY_S))
    return 1.0


@dataclass(slots=True)
class Arrivals:
    """Readings of the devices of one kind.

    Without skew every device reads in turn, each at the same interval; with it a device's share
    of the readings is that of its rank to the power of -skew (Zipf).

    Args:
        profile: The kind.
        devices: How many of it, at least one.
        rate_per_s: Readings of all of them per second, at level 1.
        skew: Exponent; 0 is none.

    Cost: 8 bytes a device where there is skew, else none.
    """

    profile: Profile
    devices: int
    rate_per_s: float
    skew: float
    _shares: F64 | None = None
    _stride: int = 1

    def __post_init__(self) -> None:
        # Neighbours in turn are not neighbours by number, and every device has its turn.
        self._stride = max(1, round(self.devices * GOLDEN))
        while math.gcd(self._stride, self.devices) != 1:
            self._stride += 1
        if self.skew:
            weights = np.arange(1, self.devices + 1, dtype=np.float64) ** -self.skew
            self._shares = np.cumsum(weights / weights.sum())

    @property
    def period_s(self) -> float:
        """Mean time between two readings of a device at level 1, seconds."""
        return self.devices / self.rate_per_s

    def between(self, begin: float, end: float, chance: np.random.Generator) -> tuple[I64, F64]:
        """Readings in a stretch of the fleet's own time, which runs `level` times as fast.

        Args:
            begin: Its beginning, seconds.
            end: Its end, seconds; not in it.
            chance: Where there is skew, who reads.

        Returns:
            int64 (N,), device of each reading; float64 (N,), when, ascending.
        """
        first, last = math.ceil(begin * self.rate_per_s), math.ceil(end * self.rate_per_s)
        turns = np.arange(first, last, dtype=np.int64)
        times = turns / self.rate_per_s
        if self._shares is not None:
            turns = np.searchsorted(self._shares, chance.random(len(turns)), side="right")
            turns = np.minimum(turns, self.devices - 1)
        return turns % self.devices * self._stride % self.devices, times
