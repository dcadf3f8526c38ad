"""What this machine's processors draw, from their own meters (RAPL), where they may be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
STAT = Path("/proc/stat")

Look = tuple[list[int], int]
"""Microjoules of each meter, and ticks that the machine's cores were busy."""


class EnergyMeter:
    """Joules for each busy second of a core, between two looks.

    A meter tells of all that its processor does, so a core's share is what was drawn over the
    seconds that cores were busy: what drew while nobody worked falls on those who did.

    Args:
        powercap: Where the kernel shows its meters.
        stat: Where it counts busy time.

    Attributes:
        readable: There is a meter, and we may read it; most kernels let root alone.
    """

    def __init__(self, powercap: Path = POWERCAP, stat: Path = STAT) -> None:
        self._stat = stat
        # Packages alone: what is within one (a core, its memory) is counted there, too.
        self._meters = sorted(powercap.glob("intel-rapl:[0-9]*"))
        self._meters = [meter for meter in self._meters if meter.name.count(":") == 1]
        self._wraps = [_number(meter / "max_energy_range_uj") for meter in self._meters]
        self._before = self._look()
        self.readable = self._before is not None

    def joules_per_core_s(self, tick_s: float) -> float | None:
        """Since the last call; None where there is no meter, or nothing was busy.

        Args:
            tick_s: Length of a tick of `/proc/stat`, seconds.
        """
        before, now = self._before, self._look()
        self._before = now
        if before is None or now is None:
            return None
        busy_s = (now[1] - before[1]) * tick_s
        return None if busy_s <= 0 else self._drawn(before[0], now[0]) / 1e6 / busy_s

    def _drawn(self, before: Sequence[int], now: Sequence[int]) -> int:
        """Microjoules of all meters; each begins again at 0 where it is full."""
        wraps = [wrap or 0 for wrap in self._wraps]
        return sum(
            b - a if b >= a else b - a + wrap for a, b, wrap in zip(before, now, wraps, strict=True)
        )

    def _look(self) -> Look | None:
        drawn = [_number(meter / "energy_uj") for meter in self._meters]
        busy = _busy_ticks(self._stat)
        if not drawn or busy is None or any(one is None for one in drawn):
            return None
        return [one for one in drawn if one is not None], busy


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text("ascii"))
    except (OSError, ValueError):
        return None


def _busy_ticks(stat: Path) -> int | None:
    """Ticks that all cores together did not idle or wait for a disk."""
    try:
        words = stat.read_text("ascii").splitlines()[0].split()
        counts = [int(word) for word in words[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    return sum(counts) - sum(counts[3:5])
