"""Latencies of all workers of a pipeline together: since the start, and of the last minutes."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import numpy as np

from headrace.schemas.batch import I64
from headrace.schemas.observed import Percentiles
from headrace.streams.client.latency import BINS, quantile_of
from headrace.streams.observe.hops import HOPS, Counted, decode_bins

SLOT_S = 10.0
SLOTS = 30
"""Five minutes can be looked back, in slots of ten seconds."""

Place = tuple[str, str]
"""Hop and device class."""

Counts = dict[Place, I64]


class LatencyLives:
    """Counts of one worker over all its lives."""

    def __init__(self) -> None:
        self._life = 0
        self._past: Counts = {}
        self._now: Counts = {}

    def take(self, life: int, counted: Counted) -> None:
        """What the worker's life of this number has counted so far."""
        if life != self._life:
            self._life, self._past, self._now = life, self.counts(), {}
        self._now = {
            (hop, name): decode_bins(bins)
            for hop, classes in counted.items()
            for name, bins in classes.items()
        }

    def counts(self) -> Counts:
        """All of it, int64 (BINS,) by hop and class."""
        return merged([self._past, self._now])


class RecentCounts:
    """Counts that only grow, looked back at in slots of `SLOT_S`."""

    def __init__(self) -> None:
        self._slots: deque[tuple[float, Counts]] = deque(maxlen=SLOTS + 1)

    def observe(self, now_s: float, counts: Counts) -> None:
        """Keep what is counted now, once a slot.

        Args:
            now_s: Monotonic seconds.
            counts: Everything counted so far; the arrays are kept.
        """
        if not self._slots or now_s - self._slots[-1][0] >= SLOT_S:
            self._slots.append((now_s, counts))

    def since(self, now_s: float, seconds: float, counts: Counts) -> Counts:
        """What was counted within the last `seconds`, to within a slot; at most five minutes."""
        before: Counts = {}
        for at_s, kept in self._slots:
            if at_s > now_s - seconds:
                break
            before = kept
        return {
            place: found - before[place] if place in before else found
            for place, found in counts.items()
        }

    def trend(self, now_s: float) -> list[tuple[float, Counts]]:
        """How long ago each closed slot ended, seconds, and what it counted; oldest first."""
        kept = list(self._slots)
        return [
            (
                now_s - at_s,
                {
                    place: found - before[place] if place in before else found
                    for place, found in counts.items()
                },
            )
            for (_, before), (at_s, counts) in pairwise(kept)
        ]


def merged(parts: list[Counts]) -> Counts:
    """All of them together: counts are added."""
    total: Counts = {}
    for part in parts:
        for place, counts in part.items():
            total[place] = total[place] + counts if place in total else counts
    return total


def percentiles(counts: Counts) -> list[Percentiles]:
    """Of each hop and class, in the order of the data path; of several classes also all of them."""
    found = []
    for hop in HOPS:
        classes = {name: bins for (where, name), bins in counts.items() if where == hop}
        if len(classes) > 1:
            classes = {"all": sum(classes.values(), np.zeros(BINS, np.int64)), **classes}
        found += [_one(hop, name, bins) for name, bins in classes.items()]
    return found


def _one(hop: str, name: str, counts: I64) -> Percentiles:
    shares = (0.5, 0.95, 0.99, 0.999)
    return Percentiles(hop, name, int(counts.sum()), *(quantile_of(counts, q) for q in shares))
