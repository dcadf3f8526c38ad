"""The demo's ledger counts its own events, once each, and says what is missing."""

from __future__ import annotations

import msgspec

from headrace.schemas.prediction import PredictionModel, PredictionTimes
from headrace.streams.cli.ledger import Ledger
from headrace.streams.client import Received
from headrace.streams.workers.jobs import Status


def prediction(offset: int, *, score: float = 0.1, device: str = "core-0") -> Received:
    """A prediction of one telemetry record."""
    return Received(
        id=f"{offset:032x}",
        rev=0,
        event_id=f"e{offset}",
        device_id=device,
        event_time="2026-11-21T10:00:00.000Z",
        score=score,
        label="anomaly" if score > 0.5 else "normal",
        confidence=0.9,
        tier="light",
        flags=(),
        feature_age_ms=1,
        model=PredictionModel("m", 1, "abcd1234"),
        source=f"t[0]@{offset}",
        times_ms=PredictionTimes(device=1000 + offset, ingest=1001, served=1002),
        latency_ms=float(offset),
    )


def status(**events: int) -> Status:
    """ENRICH's status with these counts."""
    return Status(stage="enrich", ready=True, events=events)


def test_an_earlier_runs_rest_is_not_ours() -> None:
    """Predictions of records below the run's begin are left out."""
    ledger = Ledger("anomaly", begins={"t[0]": 5})

    assert [p.source_offset for p in ledger.ours([prediction(4), prediction(5)])] == [5]


def test_every_event_must_end_somewhere() -> None:
    """Predicted, dead, late and repeated add up, or the rest is lost."""
    ledger = Ledger("anomaly")
    for offset in range(6):
        ledger.add(prediction(offset))
    ledger.statuses["enrich"] = status(dead=1, late=2, repeated=1)

    assert ledger.settled(10)
    assert not ledger.settled(11)
    assert ledger.report(bus="embedded", events_in=10, bytes_raw=0)["lost"] == 0
    assert ledger.report(bus="embedded", events_in=11, bytes_raw=0)["lost"] == 1


def test_latency_counts_from_readiness() -> None:
    """Events made before every stage was ready say nothing about latency."""
    ledger = Ledger("anomaly", ready_ms=1003)
    for offset in range(6):
        ledger.add(prediction(offset))

    assert sorted(ledger.latencies_ms) == [3.0, 4.0, 5.0]
    assert ledger.percentiles()["p50_ms"] == 4.0


def test_the_most_anomalous_devices_come_first() -> None:
    """Ranked by the highest recent score; flagged ones are counted."""
    ledger = Ledger("anomaly")
    flagged = [ledger.add(p) for p in (prediction(0), prediction(1, score=0.9, device="host"))]

    assert flagged == [False, True]
    assert [name for name, _ in ledger.top(2)] == ["host", "core-0"]
    assert ledger.flagged == 1


def test_a_received_prediction_survives_its_own_encoding() -> None:
    """The helper above is a real prediction."""
    assert msgspec.json.decode(msgspec.json.encode(prediction(3)), type=Received).source_offset == 3
