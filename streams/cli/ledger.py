"""What the demo has seen: every event accounted for, latencies, the most anomalous devices."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headrace.streams.client import Received
from headrace.streams.workers.jobs import Status

KEPT_LATENCIES = 100_000
"""Latencies kept for percentiles; older ones are forgotten, so memory stays bounded."""


@dataclass(slots=True)
class DeviceView:
    """One device as the demo shows it.

    Attributes:
        score: Its newest score.
        highest: Its highest score of the last while.
        flagged: Its predictions labelled anomalous.
        scores: Its newest scores, oldest first.
    """

    score: float = 0.0
    highest: float = 0.0
    flagged: int = 0
    scores: deque[float] = field(default_factory=lambda: deque(maxlen=30))


@dataclass(slots=True)
class Ledger:
    """Counts of one demo run.

    Attributes:
        anomaly: The pipeline's label of a high score.
        predictions: Predictions received, repeats not counted.
        flagged: Those labelled anomalous.
        repeats: Predictions received again.
        first_s: Seconds from process start to the first prediction.
        devices: What is shown of each device.
        tiers: Predictions by who answered.
        latencies_ms: Device time to receipt, milliseconds, newest last; of events made after every
            stage was ready.
        statuses: Newest status of each worker's stage.
        begins: First offset of this run in each telemetry partition; what lies below is the rest
            of an earlier run and not counted.
        ready_ms: When every stage was ready, milliseconds since 1970.
    """

    anomaly: str
    predictions: int = 0
    flagged: int = 0
    repeats: int = 0
    first_s: float | None = None
    model: str = ""
    devices: dict[str, DeviceView] = field(default_factory=dict)
    tiers: Counter[str] = field(default_factory=Counter)
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_LATENCIES))
    statuses: dict[str, Status] = field(default_factory=dict)
    begins: dict[str, int] = field(default_factory=dict)
    ready_ms: float = float("inf")

    def ours(self, predictions: Sequence[Received]) -> list[Received]:
        """Those of events of this run."""
        begins = self.begins
        return [p for p in predictions if p.source_offset >= begins.get(p.source_place, 0)]

    def add(self, prediction: Received) -> bool:
        """Count one prediction; whether it is flagged."""
        self.predictions += 1
        self.tiers[prediction.tier] += 1
        self.model = f"{prediction.model.name} v{prediction.model.version}"
        if prediction.times_ms.device >= self.ready_ms:
            self.latencies_ms.append(prediction.latency_ms)
        device = self.devices.setdefault(prediction.device_id, DeviceView())
        score = prediction.score or 0.0
        flagged = prediction.label == self.anomaly
        device.score = score
        device.highest = max(score, device.highest * 0.98)
        device.flagged += flagged
        device.scores.append(score)
        self.flagged += flagged
        return flagged

    def percentiles(self) -> dict[str, float | None]:
        """Latency percentiles in milliseconds, None before the first prediction."""
        names = {"p50_ms": 50.0, "p99_ms": 99.0, "p999_ms": 99.9}
        if not self.latencies_ms:
            return dict.fromkeys(names)
        values = np.percentile(np.array(self.latencies_ms), list(names.values()))
        return {n: round(v, 1) for n, v in zip(names, values.tolist(), strict=True)}

    def count(self, outcome: str) -> int:
        """Events of one outcome, as ENRICH counted them."""
        status = self.statuses.get("enrich")
        return status.events.get(outcome, 0) if status else 0

    def settled(self, events_in: int) -> bool:
        """Whether every event has ended somewhere."""
        ended = self.predictions + sum(map(self.count, ("dead", "late", "repeated")))
        return ended >= events_in

    def report(self, *, bus: str, events_in: int, bytes_raw: int) -> dict[str, Any]:
        """The run as one JSON object."""
        dead, late, repeated = map(self.count, ("dead", "late", "repeated"))
        serve = self.statuses.get("serve")
        return {
            "bus": bus,
            "events_in": events_in,
            "predictions_out": self.predictions,
            "dead": dead,
            "late": late,
            "repeated": repeated,
            "lost": events_in - self.predictions - dead - late - repeated,
            "duplicated": self.repeats,
            "flagged": self.flagged,
            "first_prediction_s": None if self.first_s is None else round(self.first_s, 2),
            **self.percentiles(),
            "bytes_raw": bytes_raw,
            "bytes_upstream": serve.sent_upstream_bytes if serve else 0,
            "rss_mb": round(sum(s.rss_mb for s in self.statuses.values()), 1),
            "model": self.model,
            "tiers": dict(self.tiers),
        }

    def top(self, count: int) -> list[tuple[str, DeviceView]]:
        """The devices of the highest scores."""
        ranked = sorted(self.devices.items(), key=lambda item: -item[1].highest)
        return ranked[:count]


def shown_ms(value: float | None) -> str:
    """A latency as people read it, milliseconds.

    >>> shown_ms(41.5), shown_ms(None)
    ('41.5', '…')
    """
    return "…" if value is None else f"{value}"
