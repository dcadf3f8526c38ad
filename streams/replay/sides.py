"""Two answers to the same events, side by side, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.batch import F64, I64

Bools = NDArray[np.bool_]


@dataclass(slots=True)
class Side:
    """One side's answers to N events of one partition.

    Attributes:
        offsets: int64 (N,), source offsets; ascending and distinct after `end`.
        times_ms: int64 (N,), device times.
        entities: N entities.
        scores: float64 (N,).
        high: bool (N,), labelled anomalous.
    """

    offsets: I64
    times_ms: I64
    entities: list[str]
    scores: F64
    high: Bools
    _parts: list[tuple[I64, I64, F64, Bools]] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)

    @classmethod
    def begin(cls) -> Side:
        """Nothing yet."""
        none = np.empty(0, np.int64)
        return cls(none, none, [], np.empty(0), np.empty(0, np.bool_))

    def add(
        self, offsets: I64, times_ms: I64, entities: Sequence[str], scores: F64, high: Bools
    ) -> None:
        """More answers, in any order; a later one to the same event takes its place."""
        self._parts.append((offsets, times_ms, scores, high))
        # One text for all events of an entity: one each would be most of what is held.
        known = self._names.setdefault
        self.entities += [known(name, name) for name in entities]

    def end(self) -> Side:
        """All of them by offset, each event once."""
        if not self._parts:
            return self
        offsets, times, scores, high = (np.concatenate(c) for c in zip(*self._parts, strict=True))
        # Of equal offsets the last stays: unique gives the first of the reversed.
        own, back = np.unique(offsets[::-1], return_index=True)
        rows = len(offsets) - 1 - back
        names = [self.entities[row] for row in rows.tolist()]
        return Side(own, times[rows], names, scores[rows], high[rows])


@dataclass(slots=True)
class Pairs:
    """N events that both sides answered, and how many only one did.

    Attributes:
        partitions: int32 (N,), source partition.
        offsets: int64 (N,), source offsets.
        times_ms: int64 (N,), device times.
        entities: N entities.
        ours: float64 (N,), score that was served.
        theirs: float64 (N,), score by the other.
        was: bool (N,), labelled anomalous as served.
        now: bool (N,), labelled anomalous by the other.
        only_ours: Events that the other gives no score: it refuses them, or they are late by it.
        only_theirs: Events of which no prediction is on the topic.
    """

    partitions: NDArray[np.int32]
    offsets: I64
    times_ms: I64
    entities: list[str]
    ours: F64
    theirs: F64
    was: Bools
    now: Bools
    only_ours: int = 0
    only_theirs: int = 0

    def __len__(self) -> int:
        return len(self.offsets)

    @classmethod
    def none(cls) -> Pairs:
        """No event."""
        return pair_up(0, Side.begin(), Side.begin())

    @classmethod
    def joined(cls, parts: Sequence[Pairs]) -> Pairs:
        """The pairs of several partitions, one after another."""
        if not parts:
            return cls.none()
        return cls(
            np.concatenate([part.partitions for part in parts]),
            np.concatenate([part.offsets for part in parts]),
            np.concatenate([part.times_ms for part in parts]),
            [name for part in parts for name in part.entities],
            np.concatenate([part.ours for part in parts]),
            np.concatenate([part.theirs for part in parts]),
            np.concatenate([part.was for part in parts]),
            np.concatenate([part.now for part in parts]),
            sum(part.only_ours for part in parts),
            sum(part.only_theirs for part in parts),
        )


def pair_up(partition: int, ours: Side, theirs: Side) -> Pairs:
    """The events that both sides answered.

    Args:
        partition: Source partition.
        ours: What was served.
        theirs: What the other says.
    """
    both, a, b = np.intersect1d(
        ours.offsets, theirs.offsets, assume_unique=True, return_indices=True
    )
    return Pairs(
        np.full(len(both), partition, np.int32),
        both,
        ours.times_ms[a],
        [ours.entities[row] for row in a.tolist()],
        ours.scores[a],
        theirs.scores[b],
        ours.high[a],
        theirs.high[b],
        only_ours=len(ours.offsets) - len(both),
        only_theirs=len(theirs.offsets) - len(both),
    )
