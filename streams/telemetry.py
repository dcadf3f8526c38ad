"""OpenTelemetry's door: the metric catalogue as observable instruments.

Nothing is recorded on the data path: instruments read the stage's counters when somebody collects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.sdk import metrics as sdk

from headrace.schemas.metrics import CATALOGUE, MetricName
from headrace.streams.delivery.counters import Counters
from headrace.streams.jobs import StateFacts

Readings = Iterable[tuple[float, dict[str, str]]]


class Observed(Protocol):
    """What the instruments read of a stage."""

    counters: Counters

    def lag(self) -> dict[int, int]:
        """Records behind, by partition."""

    def in_flight(self) -> dict[int, int]:
        """Batches taken and not yet durable, by partition."""

    def held(self) -> tuple[int, int]:
        """Bytes fetched and not finished, and their bound."""

    def state(self) -> StateFacts | None:
        """What the stage remembers of its devices, None where it remembers none."""

    def served(self) -> tuple[int, int, int]:
        """Session calls, rows scored by the model, rows answered by the cache."""


def observe(
    source: Observed, *, provider: MeterProvider | None = None, **labels: str
) -> MeterProvider:
    """Register every metric of the catalogue for one stage.

    Args:
        source: What is read when somebody collects.
        provider: Who collects; None makes one without readers.
        labels: ``pipeline`` and ``stage``.

    Returns:
        The provider.
    """
    provider = provider or sdk.MeterProvider()
    meter = provider.get_meter("headrace")
    for name, read in _readings(source).items():
        spec = CATALOGUE[name]
        create = (
            meter.create_observable_counter
            if spec.kind == "counter"
            else meter.create_observable_gauge
        )
        create(name, callbacks=[_callback(read, labels)], unit=spec.unit, description=spec.meaning)
    return provider


def _readings(stage: Observed) -> dict[MetricName, Callable[[], Readings]]:
    """How each metric is read."""
    counters = stage.counters
    return {
        "headrace_stream_events_total": lambda: _by("outcome", counters.events),
        "headrace_stream_batches_total": lambda: _one(counters.batches),
        "headrace_stream_busy_seconds_total": lambda: _one(counters.busy_s),
        "headrace_stream_retries_total": lambda: _by("code", counters.retries),
        "headrace_stream_expired_total": lambda: _one(counters.expired),
        "headrace_stream_replayed_total": lambda: _one(counters.replayed),
        "headrace_stream_lag_events": lambda: _by("partition", stage.lag()),
        "headrace_stream_in_flight_batches": lambda: _by("partition", stage.in_flight()),
        "headrace_stream_held_bytes": lambda: _one(stage.held()[0]),
        "headrace_stream_held_limit_bytes": lambda: _one(stage.held()[1]),
        "headrace_stream_state_bytes": lambda: _of(stage.state(), lambda s: _one(s.bytes)),
        "headrace_stream_devices": lambda: _of(stage.state(), _devices),
        "headrace_store_rewrites_total": lambda: _one(counters.rewrites),
        "headrace_serving_calls_total": lambda: _one(stage.served()[0]),
        "headrace_serving_rows_total": lambda: _one(stage.served()[1]),
        "headrace_serving_cache_hits_total": lambda: _one(stage.served()[2]),
        "headrace_raw_bytes_total": lambda: _one(counters.raw_bytes),
        "headrace_upstream_bytes_total": lambda: _one(counters.upstream_bytes),
    }


def _callback(
    read: Callable[[], Readings], labels: Mapping[str, str]
) -> Callable[[CallbackOptions], Iterator[Observation]]:
    def collect(_: CallbackOptions) -> Iterator[Observation]:
        for value, own in read():
            yield Observation(value, {**labels, **own})

    return collect


def _of(state: StateFacts | None, read: Callable[[StateFacts], Readings]) -> Readings:
    return () if state is None else read(state)


def _devices(state: StateFacts) -> Readings:
    return _by("clock", state.clocks or {"any": state.entities})


def _one(value: float) -> Readings:
    return [(value, {})]


def _by(label: str, values: Mapping[str, int] | Mapping[int, int]) -> Readings:
    return [(value, {label: str(name)}) for name, value in values.items()]
