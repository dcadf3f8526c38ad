"""Everything that is known of one pipeline's workers on this machine, kept while they run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from headrace.schemas.observed import Percentiles
from headrace.streams.observe.attributes import Told
from headrace.streams.observe.canary_book import CanaryBook
from headrace.streams.observe.drift_book import DriftBook, drift_samples, line_of
from headrace.streams.observe.hops import Hop
from headrace.streams.observe.latencies import (
    Counts,
    LatencyLives,
    RecentCounts,
    merged,
    percentiles,
)
from headrace.streams.observe.outgoing import Outgoing
from headrace.streams.observe.samples import Histograms, Lives, Samples, Tallies, added
from headrace.streams.workers.jobs import Status
from headrace.streams.workers.supervisor import Supervisor, Worker

log = logging.getLogger("headrace.drift")


class Readings:
    """Takes every status line of a supervisor's workers, and answers for all of them together.

    Args:
        pipeline: Pipeline name.
        supervisor: Whose workers.
        now: Monotonic seconds.
    """

    def __init__(
        self,
        pipeline: str,
        supervisor: Supervisor,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now, self._pipeline = now, pipeline
        self._workers = [
            (worker, Lives(pipeline, worker.stage, worker.name)) for worker in supervisor.workers
        ]
        self._lives = {worker.name: lives for worker, lives in self._workers}
        self._latencies = {worker.name: LatencyLives() for worker in supervisor.workers}
        self._recent = RecentCounts()
        self._perceived: Counts = {}
        self._dropped = {worker.name: Tallies() for worker in supervisor.workers}
        self.outgoing = Outgoing()
        self.drift: DriftBook | None = None
        """What judges drift, where somebody looks for it."""
        self.canary: CanaryBook | None = None
        """What became of probes, where any are sent."""
        supervisor.told.append(self._take)

    def samples(self) -> Samples:
        """Every metric of the catalogue that there is something to say of."""
        dropped = sum((found.total() for found in self._dropped.values()), self.outgoing.dropped)
        own: Samples = {} if self.drift is None else drift_samples(self._pipeline, self.drift)
        if self.canary is not None:
            own |= self.canary.samples(self._pipeline)
        own |= {
            ("headrace_telemetry_dropped_total", (self._pipeline, reason)): count
            for reason, count in dropped.items()
        }
        workers = [
            lives.samples(life=worker.restarts, running=worker.running)
            for worker, lives in self._workers
        ]
        return added([*workers, own])

    def latencies(self) -> Counts:
        """Counts of latencies since the start, by hop and device class."""
        return merged([self._perceived, *(lives.counts() for lives in self._latencies.values())])

    def perceive(self, counts: Counts) -> None:
        """Add what a consumer reported."""
        self._perceived = merged([self._perceived, counts])

    def histograms(self) -> Histograms:
        """Metrics of the catalogue that are histograms, bins in milliseconds."""
        return {
            ("headrace_stream_latency_seconds", (self._pipeline, *place)): counts
            for place, counts in self.latencies().items()
        }

    def percentiles(self, *, last_s: float = 60.0) -> list[Percentiles]:
        """Of the last `last_s` seconds, at most 300, to within ten."""
        return percentiles(self._recent.since(self._now(), last_s, self.latencies()))

    def trend(self, hop: Hop) -> list[tuple[float, list[Percentiles]]]:
        """One hop in each ten seconds of the last five minutes.

        Returns:
            How long ago each ended in seconds, and its percentiles as `percentiles` has them: of
            all device classes together, then of each; oldest first.
        """
        return [
            (round(age_s, 1), [one for one in percentiles(counts) if one.hop == hop])
            for age_s, counts in self._recent.trend(self._now())
        ]

    def _take(self, worker: Worker, status: Status) -> None:
        self._lives[worker.name].take(worker.restarts, status)
        if (seen := status.seen) is not None:
            self._dropped[worker.name].take(worker.restarts, seen.dropped)
            if self.drift is not None:
                for alarm in self.drift.take(
                    (worker.name, worker.restarts), seen.model, seen.drift
                ):
                    log.warning("%s", Told(line_of(self._pipeline, alarm)))
            self.outgoing.add(worker.name, seen.spans, seen.logs)
            self._latencies[worker.name].take(worker.restarts, seen.latencies)
            self._recent.observe(self._now(), self.latencies())
