"""From workers' status lines to samples of the metric catalogue, over all lives of each worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from headrace.schemas.batch import I64
from headrace.schemas.metrics import CATALOGUE, MetricName
from headrace.streams.workers.jobs import FINALISER, PartitionStatus, Status

Sample = tuple[MetricName, tuple[str, ...]]
"""A metric and its label values, in the order of the catalogue's label names."""

Samples = dict[Sample, float]
Histograms = dict[Sample, I64]
"""Counts int64 (BINS,) of latencies, bins as of `client.latency`."""

_MIB = 1 << 20


def stage_samples(pipeline: str, worker: str, status: Status) -> Samples:
    """What one status line says, by metric and labels."""
    found = _of_stage(pipeline, status)
    if status.beside is not None:
        found |= _of_stage(pipeline, status.beside)
    labels = (pipeline, status.stage, worker)
    found[("headrace_worker_resident_bytes", labels)] = round(status.rss_mb * _MIB)
    found[("headrace_worker_cpu_seconds_total", labels)] = status.cpu_s
    return found


def _of_stage(pipeline: str, status: Status) -> Samples:
    """What is said of a stage, not of its process."""
    stage = (pipeline, status.stage)
    found: Samples = {(name, stage): value for name, value in _totals(status)}
    found |= {("headrace_stream_events_total", (*stage, k)): v for k, v in status.events.items()}
    found |= {("headrace_stream_retries_total", (*stage, k)): v for k, v in status.retries.items()}
    for part in status.partitions:
        found |= _partition((*stage, str(part.partition)), part)
    if status.model:
        found |= _of_model((pipeline, status.model), status)
    if status.state is not None:
        found[("headrace_stream_state_bytes", stage)] = status.state.bytes
        for clock, count in _clocks(status).items():
            found[("headrace_stream_devices", (*stage, clock))] = count
        for partition, seconds in status.state.behind_s.items():
            found[("headrace_stream_behind_seconds", (*stage, partition))] = seconds
    return found


def _totals(status: Status) -> Iterator[tuple[MetricName, float]]:
    """Metrics of a stage as a whole."""
    yield "headrace_stream_batches_total", status.batches
    yield "headrace_stream_busy_seconds_total", status.busy_s
    yield "headrace_stream_expired_total", status.expired
    yield "headrace_stream_replayed_total", status.replayed
    yield "headrace_stream_held_bytes", status.held_bytes
    yield "headrace_stream_held_limit_bytes", status.held_limit_bytes
    yield "headrace_store_rewrites_total", status.rewrites
    yield "headrace_serving_calls_total", status.calls
    yield "headrace_serving_rows_total", status.rows
    yield "headrace_serving_cache_hits_total", status.cached
    yield "headrace_upstream_bytes_total", status.upstream_bytes
    yield "headrace_raw_bytes_total", status.raw_bytes


def _of_model(labels: tuple[str, ...], status: Status) -> Samples:
    """What its session calls cost, and what the cache saved of that."""
    return {
        ("headrace_serving_cpu_seconds_total", labels): status.model_cpu_s,
        ("headrace_serving_saved_cpu_seconds_total", labels): status.saved_cpu_s,
    }


def _partition(labels: tuple[str, ...], part: PartitionStatus) -> Samples:
    return {
        ("headrace_stream_lag_events", labels): part.lag,
        ("headrace_stream_in_flight_batches", labels): part.in_flight,
    }


def _clocks(status: Status) -> Mapping[str, int]:
    if status.state is None or status.stage == FINALISER:
        return {}
    return status.state.clocks or {"any": status.state.entities}


def is_counter(sample: Sample) -> bool:
    """Whether it only ever rises."""
    return CATALOGUE[sample[0]].kind == "counter"


def added(parts: Iterable[Samples]) -> Samples:
    """All of them together: what several workers say of one stage is added up.

    Example:
        >>> lag = ("headrace_stream_lag_events", ("press", "enrich", "0"))
        >>> added([{lag: 2.0}, {lag: 3.0}])[lag]
        5.0
    """
    total: Samples = {}
    for part in parts:
        for sample, value in part.items():
            total[sample] = total.get(sample, 0) + value
    return total


class Tallies:
    """Totals by name of one worker, over all its lives."""

    def __init__(self) -> None:
        self._life = 0
        self._past: Counter[str] = Counter()
        self._now: Counter[str] = Counter()

    def take(self, life: int, counts: Mapping[str, int]) -> None:
        """What the worker's life of this number has counted so far."""
        if life != self._life:
            self._life, self._past = life, self.total()
        self._now = Counter(counts)

    def total(self) -> Counter[str]:
        """All of it."""
        return self._past + self._now


class Lives:
    """Samples of one worker: counters go on where its last life ended, gauges are of this one.

    Args:
        pipeline: Pipeline name.
        stage: The worker's stage.
        worker: Its name.
    """

    def __init__(self, pipeline: str, stage: str, worker: str) -> None:
        self._pipeline, self._worker = pipeline, worker
        self._labels = (pipeline, stage, worker)
        self._life = 0
        self._past: Samples = {}
        self._now: Samples = {}

    def take(self, life: int, status: Status) -> None:
        """A status line of the worker's life of this number; lives are told of in order."""
        if life != self._life:
            self._life = life
            counted = {k: v for k, v in self._now.items() if is_counter(k)}
            self._past = added([self._past, counted])
        self._now = stage_samples(self._pipeline, self._worker, status)

    def samples(self, *, life: int, running: bool) -> Samples:
        """What is known now; of a worker that does not run, no gauges but that it does not."""
        now = self._now
        if not running or life != self._life:
            now = {k: v for k, v in now.items() if is_counter(k)}
        own: Samples = {
            ("headrace_worker_running", self._labels): float(running),
            ("headrace_worker_restarts_total", self._labels): life,
        }
        return added([self._past, now, own])
