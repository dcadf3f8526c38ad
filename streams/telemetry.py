"""OpenTelemetry's door: the metric catalogue as observable instruments.

Nothing is recorded on the data path: instruments read the stage's counters when somebody collects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.sdk import metrics as sdk

from headrace.schemas.metrics import CATALOGUE, MetricName
from headrace.streams.delivery.counters import Counters

Readings = Iterable[tuple[float, dict[str, str]]]


def observe(
    counters: Counters,
    lag: Callable[[], dict[int, int]],
    *,
    provider: MeterProvider | None = None,
    **labels: str,
) -> MeterProvider:
    """Register every metric that one stage can report.

    Args:
        counters: The stage's totals.
        lag: Events behind, by partition.
        provider: Who collects; None makes one without readers.
        labels: ``pipeline`` and ``stage``.

    Returns:
        The provider.
    """
    provider = provider or sdk.MeterProvider()
    readings: dict[MetricName, Callable[[], Readings]] = {
        "headrace_stream_events_total": lambda: _by("outcome", counters.events),
        "headrace_stream_batches_total": lambda: [(counters.batches, {})],
        "headrace_stream_retries_total": lambda: _by("code", counters.retries),
        "headrace_stream_expired_total": lambda: [(counters.expired, {})],
        "headrace_stream_replayed_total": lambda: [(counters.replayed, {})],
        "headrace_stream_lag_events": lambda: _by(
            "partition", {str(partition): behind for partition, behind in lag().items()}
        ),
        "headrace_store_rewrites_total": lambda: [(counters.rewrites, {})],
        "headrace_raw_bytes_total": lambda: [(counters.raw_bytes, {})],
        "headrace_upstream_bytes_total": lambda: [(counters.upstream_bytes, {})],
    }
    meter = provider.get_meter("headrace")
    for name, read in readings.items():
        spec = CATALOGUE[name]
        create = (
            meter.create_observable_counter
            if spec.kind == "counter"
            else meter.create_observable_gauge
        )
        create(name, callbacks=[_callback(read, labels)], unit=spec.unit, description=spec.meaning)
    return provider


def _callback(
    read: Callable[[], Readings], labels: dict[str, str]
) -> Callable[[CallbackOptions], Iterator[Observation]]:
    def collect(_: CallbackOptions) -> Iterator[Observation]:
        for value, own in read():
            yield Observation(value, {**labels, **own})

    return collect


def _by(label: str, values: dict[str, int]) -> Readings:
    return [(value, {label: name}) for name, value in values.items()]
