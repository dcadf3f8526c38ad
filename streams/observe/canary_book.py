"""What became of a pipeline's probes: counted, and told to metrics, health and objectives."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from headrace.schemas.canary import Canary
from headrace.schemas.prediction import Prediction
from headrace.streams.observe.samples import Samples

Outcome = Literal["right", "wrong", "slow", "missing", "unsent"]
"""Wrong: another score than the file says, or none. Slow: right, but late. Missing: no prediction
came until the next probe. Unsent: the bus did not take the probe."""

FAILING = 3
"""So many probes in a row that are not right, and the pipeline is not ready."""


def outcome_of(canary: Canary, prediction: Prediction | None, took_ms: float) -> Outcome:
    """What became of one probe.

    Args:
        canary: What is right.
        prediction: Its prediction, None where none came.
        took_ms: From sending the probe to having the prediction in hand, milliseconds.
    """
    if prediction is None:
        return "missing"
    score = prediction.score
    if score is None or not canary.least <= score <= canary.most:
        return "wrong"
    return "slow" if took_ms > canary.within_ms else "right"


class CanaryBook:
    """Every probe of one `up`.

    Attributes:
        counts: Probes by outcome.
        newest: What became of the newest; None before there is one.
        took_ms: How long the newest answered one took, milliseconds.
        failing: Probes since the last that was right.
    """

    def __init__(self) -> None:
        self.counts: Counter[Outcome] = Counter()
        self.newest: Outcome | None = None
        self.took_ms: float | None = None
        self.failing = 0

    def add(self, outcome: Outcome, took_ms: float | None = None) -> None:
        """One probe more."""
        self.counts[outcome] += 1
        self.newest = outcome
        self.failing = 0 if outcome == "right" else self.failing + 1
        self.took_ms = self.took_ms if took_ms is None else took_ms

    def samples(self, pipeline: str) -> Samples:
        """Metrics of the catalogue."""
        found: Samples = {
            ("headrace_canary_probes_total", (pipeline, outcome)): count
            for outcome, count in self.counts.items()
        }
        if self.took_ms is not None:
            found["headrace_canary_answer_seconds", (pipeline,)] = self.took_ms / 1000
        return found

    def facts(self) -> dict[str, Any]:
        """Ready to become JSON."""
        return {
            "probes": dict(self.counts),
            "newest": self.newest,
            "took_ms": None if self.took_ms is None else round(self.took_ms, 1),
            "failing": self.failing,
        }

    def trouble(self) -> list[str]:
        """Why the pipeline does not work, by its probes; empty where it does."""
        if self.failing < FAILING:
            return []
        return [f"canary: the last {self.failing} probes were not right, the newest {self.newest}"]
