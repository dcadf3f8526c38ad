"""Every metric of the catalogue can be collected, with the labels it names and no others."""

from __future__ import annotations

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from headrace.schemas.metrics import CATALOGUE
from headrace.streams.delivery.counters import Counters
from headrace.streams.jobs import StateFacts
from headrace.streams.telemetry import observe


class Stage:
    """A stage that has done something of everything."""

    def __init__(self) -> None:
        self.counters = Counters(batches=3, busy_s=0.5, expired=1, replayed=2, rewrites=1)
        self.counters.events.update({"in": 10, "out": 9, "dead": 1})
        self.counters.retry("store.unavailable")
        self.counters.raw_bytes, self.counters.upstream_bytes = 1000, 10

    def lag(self) -> dict[int, int]:
        return {0: 5}

    def in_flight(self) -> dict[int, int]:
        return {0: 1}

    def held(self) -> tuple[int, int]:
        return 100, 1000

    def state(self) -> StateFacts:
        return StateFacts(entities=3, bytes=900, clocks={"ahead": 1, "right": 2, "behind": 0})

    def served(self) -> tuple[int, int, int]:
        return 1, 8, 2


def test_the_whole_catalogue_is_collected() -> None:
    """What is collected is exactly what the catalogue says, name by name and label by label."""
    reader = InMemoryMetricReader()
    observe(Stage(), provider=MeterProvider([reader]), pipeline="p", stage="enrich")
    data = reader.get_metrics_data()
    assert data is not None

    found = {
        metric.name: {frozenset(point.attributes) for point in metric.data.data_points}
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }

    assert found == {name: {frozenset(spec.labels)} for name, spec in CATALOGUE.items()}


def test_values_are_the_counters() -> None:
    """Collected twice, a counter that moved in between shows it."""
    reader = InMemoryMetricReader()
    stage = Stage()
    observe(stage, provider=MeterProvider([reader]), pipeline="p", stage="enrich")
    stage.counters.batches = 7
    data = reader.get_metrics_data()
    assert data is not None

    points = [
        point.value
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        if metric.name == "headrace_stream_batches_total"
        for point in metric.data.data_points
    ]

    assert points == [7]
