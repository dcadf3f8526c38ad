"""Devices as the console shows them: ranked by their scores, with what was predicted last."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from headrace.schemas.canary import RESERVED
from headrace.schemas.prediction import Prediction

MOST_DEVICES = 5000
"""Devices remembered; the one unseen for longest is forgotten first, so memory stays bounded."""

FADES = 0.98
"""A high score counts by this much less with every prediction after it."""

HALF_S = 30.0
"""And by half in so many seconds without one: who has stopped sending makes room."""

SCORES = 60
PREDICTIONS = 10


@dataclass(slots=True)
class Device:
    """One device.

    Attributes:
        highest: Its highest score of the last while (`FADES`).
        flagged: Its predictions that were labelled anomalous, of those looked at.
        scores: Its newest scores, oldest first; None where it was refused.
        newest: Its newest predictions, oldest first.
    """

    highest: float = 0.0
    flagged: int = 0
    scores: deque[float | None] = field(default_factory=lambda: deque(maxlen=SCORES))
    newest: deque[Prediction] = field(default_factory=lambda: deque(maxlen=PREDICTIONS))

    def add(self, prediction: Prediction, anomaly: str) -> None:
        """One prediction more."""
        self.highest = max(prediction.score or 0.0, self.highest * FADES)
        self.flagged += prediction.label == anomaly
        self.scores.append(prediction.score)
        self.newest.append(prediction)

    def standing(self, now_ms: float) -> float:
        """What it is ranked by: its highest score of the last while, less for one long unseen.

        Args:
            now_ms: Wall clock, milliseconds since 1970.
        """
        unseen_s = max(0.0, now_ms - self.newest[-1].times_ms.served) / 1000
        return float(self.highest * 0.5 ** (unseen_s / HALF_S))


class DeviceBoard:
    """What the newest predictions say of each device.

    Args:
        anomaly: The pipeline's label of a high score.
        most: Devices remembered.
    """

    def __init__(self, anomaly: str, *, most: int = MOST_DEVICES) -> None:
        self._anomaly, self._most = anomaly, most
        self._devices: dict[str, Device] = {}
        self.tiers: Counter[str] = Counter()
        """Predictions looked at, by who answered."""
        self.model: Prediction | None = None
        """The newest prediction: which model answers."""

    def __len__(self) -> int:
        return len(self._devices)

    def __contains__(self, name: object) -> bool:
        return name in self._devices

    def take(self, predictions: Iterable[Prediction]) -> None:
        """Look at predictions, each device's in their order."""
        for prediction in predictions:
            if prediction.device_id.startswith(RESERVED):
                continue  # a probe is no device
            # Last in the dict is who was seen last.
            device = self._devices.pop(prediction.device_id, None) or Device()
            self._devices[prediction.device_id] = device
            device.add(prediction, self._anomaly)
            self.tiers[prediction.tier] += 1
            self.model = prediction
        while len(self._devices) > self._most:
            del self._devices[next(iter(self._devices))]

    def names(self, most: int) -> list[str]:
        """Devices seen last, at most so many."""
        return list(self._devices)[-most:]

    def ranked(self, most: int, *, now_ms: float) -> list[dict[str, Any]]:
        """The devices that stand highest, the highest first."""
        standing = [(one.standing(now_ms), name, one) for name, one in self._devices.items()]
        standing.sort(key=lambda item: (-item[0], item[1]))
        return [
            {
                "name": name,
                "score": device.scores[-1],
                "highest": highest,
                "flagged": device.flagged,
                "label": device.newest[-1].label,
                "scores": list(device.scores),
            }
            for highest, name, device in standing[:most]
        ]

    def of(self, name: str) -> Device | None:
        """One device; None where nothing was seen of it."""
        return self._devices.get(name)
