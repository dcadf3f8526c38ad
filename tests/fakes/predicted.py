"""Predictions as SERVE writes them, of a device and a score."""

from __future__ import annotations

from headrace.schemas.prediction import Prediction, PredictionModel, PredictionTimes

SERVED_MS = 1_790_000_000_000


def predicted(device: str, score: float | None, served_ms: int = SERVED_MS) -> Prediction:
    """One prediction of a device."""
    return Prediction(
        id="0", rev=0, event_id="e", device_id=device, event_time="2026-01-01T00:00:00Z",
        score=score, label="anomaly" if (score or 0) >= 0.5 else "normal", confidence=None,
        tier="light", flags=(), feature_age_ms=0, model=PredictionModel("m", 1, "00"),
        source="t[0]@0", times_ms=PredictionTimes(0, 0, served_ms),
    )  # fmt: skip
