"""What a shape's scores must be, computed event by event in plain numpy from the same log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import orjson
from job import ALPHA, Shape, weights_of

SAMPLED = 50
WORST_SCORE = 1e-5
"""Largest difference between two scores of an event: float32 and the order of a sum."""


class Sample:
    """The events of some devices, on their way into the log, as the rows their model must see.

    About `devices` devices are followed. Their distance is odd, so that they fall on every one of
    the partitions, of which there is a power of two.

    Args:
        shape: Of the job.
        devices: How many of it are followed.
    """

    def __init__(self, shape: Shape, devices: int = SAMPLED) -> None:
        self._shape = shape
        self._every = max(1, shape.devices // devices) | 1
        self._means: dict[int, np.ndarray] = {}
        self._numbers: list[int] = []
        self._rows: list[np.ndarray] = []

    def watch(self, events: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
        """The same events; those of the sample are looked at in passing."""
        for number, event in enumerate(events):
            if number % self._shape.devices % self._every == 0:
                self._follow(number, event[1])
            yield event

    def _follow(self, number: int, event: bytes) -> None:
        metrics = orjson.loads(event)["metrics"]
        values = np.array([metrics[name] for name in self._shape.names])
        before = self._means.get(number % self._shape.devices, values)
        mean = before + ALPHA * (values - before)
        self._means[number % self._shape.devices] = mean
        self._numbers.append(number)
        self._rows.append(np.concatenate([values, mean]))

    def expected(self) -> tuple[np.ndarray, np.ndarray]:
        """int64 (K,) numbers of the events of the sample, float64 (K,) their scores."""
        weights = {name: value.astype(float) for name, value in weights_of(self._shape).items()}
        rows = np.array(self._rows, np.float32).astype(float).reshape(-1, self._shape.features)
        hidden = np.maximum(rows @ weights["w1"] + weights["b1"], 0)
        logits = (hidden @ weights["w2"] + weights["b2"])[:, 0]
        return np.array(self._numbers, np.int64), 1 / (1 + np.exp(-logits))

    def check(self, scores: np.ndarray) -> float:
        """The largest difference from float64 (N,), the score of every event of a log.

        That log may be the front of the one that was watched.

        Raises:
            SystemExit: an event has no score, or one of the sample has another than it must.
        """
        if missing := int(np.isnan(scores).sum()):
            raise SystemExit(f"{self._shape}: no prediction of {missing} of {len(scores)} events")
        numbers, expected = self.expected()
        there = numbers < len(scores)
        numbers, expected = numbers[there], expected[there]
        worst = float(np.abs(scores[numbers] - expected).max(initial=0.0))
        if worst > WORST_SCORE:
            raise SystemExit(f"{self._shape}: a score differs from plain numpy by {worst}")
        return worst
