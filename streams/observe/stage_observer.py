"""Watches one stage's batches become durable, and tells of them in the worker's status lines."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from headrace.schemas.batch import RecordBatch
from headrace.schemas.observe import Observe
from headrace.schemas.protocols import Effects
from headrace.streams.client.clock import wall_clock
from headrace.streams.observe.drift_sketch import DriftSketch
from headrace.streams.observe.hops import HopRecorder
from headrace.streams.observe.log_lines import LogKeeper
from headrace.streams.observe.spans import SpanRecorder
from headrace.streams.workers.jobs import Seen


class StageObserver:
    """An `Observer`: a few array operations for each batch, nothing for each event.

    Args:
        pipeline: Pipeline name.
        stage: Stage name.
        settings: What is watched.
        now: Wall clock, seconds since 1970.
    """

    def __init__(
        self,
        pipeline: str,
        stage: str,
        *,
        settings: Observe,
        now: Callable[[], float] = wall_clock,
    ) -> None:
        self._now = now
        self._hops = HopRecorder()
        self._spans = SpanRecorder(pipeline, stage, slow_ms=settings.slow_ms)
        self._logs = LogKeeper()
        self._drift = None if settings.drift is None else DriftSketch(settings.drift)
        self._tracing = False

    def trace(self) -> None:
        """From now on make spans and keep log lines: somebody exports them."""
        self._tracing = True
        logging.getLogger().addHandler(self._logs)

    def now_ms(self) -> float:
        """Wall clock, milliseconds since 1970."""
        return self._now() * 1000

    def observe(
        self, part: RecordBatch, effects: Effects, *, begun_ms: float, readable_ms: float
    ) -> None:
        """See `Observer.observe`."""
        timed = effects.timed
        if timed is None:
            return
        self._hops.record(timed, begun_ms=begun_ms, readable_ms=readable_ms)
        if self._drift is not None:
            self._drift.record(timed)
        if self._tracing:
            self._spans.record(timed, part, effects, begun_ms=begun_ms, readable_ms=readable_ms)

    def seen(self) -> Seen:
        """Counts since the start; spans and log lines since this was last asked."""
        dropped = Counter(self._logs.dropped)
        if self._spans.dropped:
            dropped["span"] = self._spans.dropped
        return Seen(
            latencies=self._hops.counted(),
            spans=self._spans.take(),
            logs=self._logs.take(),
            dropped=dict(dropped),
            drift=[] if self._drift is None else self._drift.counted(),
        )
