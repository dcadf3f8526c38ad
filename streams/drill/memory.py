"""Whether a worker's memory stays where it is: samples over its life, and their slope."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

EVERY_S = 1.0
LEAST_S = 420.0
"""Younger lives say nothing: the allocator gives back in steps."""

FLAT_MB_PER_MIN = 0.5
"""Memory that grows by less counts as flat: 5 MiB in the second half of twenty minutes. The first
half is not looked at: imports, caches, and the backlog of the longest outage, after which the
allocator keeps what it had (30 MiB in one step, then level, as measured)."""


@dataclass
class Memory:
    """Resident memory of one life of a worker, and what of it is state.

    Attributes:
        worker: Its name.
        samples: Age in seconds, resident MiB and MiB of state, oldest first, at most one in
            `EVERY_S`.
    """

    worker: str
    samples: list[tuple[float, float, float]] = field(default_factory=list)

    def add(self, age_s: float, rss_mb: float, state_mb: float = 0.0) -> None:
        """Note one sample, unless the last one is too young."""
        if not self.samples or age_s - self.samples[-1][0] >= EVERY_S:
            self.samples.append((age_s, rss_mb, state_mb))

    @property
    def age_s(self) -> float:
        """Age at the last sample, seconds."""
        return self.samples[-1][0] if self.samples else 0.0

    def floors(self) -> list[tuple[float, float]]:
        """The least it held in each minute of its life, and the state it had then, MiB.

        A surge raises the most only; and once a minute a worker gives freed memory back to the
        system, so the least is what it holds after that.
        """
        by_minute: dict[int, tuple[float, float]] = {}
        for age_s, *held in self.samples:
            rss_mb, state_mb = held
            minute = int(age_s // 60)
            by_minute[minute] = min((rss_mb, state_mb), by_minute.get(minute, (rss_mb, state_mb)))
        return [by_minute[minute] for minute in sorted(by_minute)]

    def facts(self) -> dict[str, Any]:
        """This life as one JSON object."""
        floors = self.floors()
        second_half = list(enumerate(floors))[len(floors) // 2 :]
        beside_state = [(minute, rss - state) for minute, (rss, state) in second_half]
        return {
            "worker": self.worker,
            "minutes": round(self.age_s / 60, 1),
            "most_mb": round(max(rss for _, rss, _ in self.samples), 1),
            "floors_mb": [round(rss, 1) for rss, _ in floors],
            "state_mb": [round(state, 1) for _, state in floors],
            "slope_mb_per_min": round(slope([(m, rss) for m, (rss, _) in second_half]), 3),
            "beside_state_mb_per_min": round(slope(beside_state), 3),
        }

    def breach(self) -> str | None:
        """In what it is not flat; None where it is, or the life was too short to tell.

        State is what the pipeline file asks for, and is told beside it.
        """
        facts = self.facts()
        if self.age_s < LEAST_S or facts["beside_state_mb_per_min"] <= FLAT_MB_PER_MIN:
            return None
        return (
            f"memory of {self.worker} grew by {facts['beside_state_mb_per_min']} MiB a minute "
            f"beside its state in the second half of {facts['minutes']} minutes, expected at most "
            f"{FLAT_MB_PER_MIN}"
        )


def longest(lives: Iterable[Memory]) -> list[Memory]:
    """The longest life of each worker, by name; lives without a sample left out."""
    found: dict[str, Memory] = {}
    for life in lives:
        if life.samples and life.age_s >= found.get(life.worker, life).age_s:
            found[life.worker] = life
    return [found[name] for name in sorted(found)]


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """Slope of the least-squares line through these points; 0 where there are fewer than two.

    Example:
        >>> slope([(0.0, 1.0), (10.0, 2.0), (20.0, 3.0)])
        0.1
    """
    if len(samples) < 2:
        return 0.0
    mean_x = sum(x for x, _ in samples) / len(samples)
    mean_y = sum(y for _, y in samples) / len(samples)
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    return sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread if spread else 0.0
