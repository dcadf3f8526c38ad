"""Spans of batches with a sampled or a slow event, made once the batch is durable."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator

import numpy as np

from headrace.schemas.batch import I64, RecordBatch
from headrace.schemas.protocols import Effects
from headrace.schemas.timed import Timed
from headrace.streams.observe.traces import SpanRecord, batch_span, child_of, span_id

MOST_SLOW = 4
"""Slow events of one batch that get a span of their own: the slowest."""

MOST_KEPT = 512
"""Spans between two status lines that tell of them; of more the newest are kept."""


class SpanRecorder:
    """Spans of one stage in one process, until somebody takes them.

    Args:
        pipeline: Pipeline name.
        stage: Stage name.
        slow_ms: An event that took longer from the broker to its prediction is slow, milliseconds.
    """

    def __init__(self, pipeline: str, stage: str, *, slow_ms: float) -> None:
        self._pipeline, self._stage, self._slow_ms = pipeline, stage, slow_ms
        self._spans: deque[SpanRecord] = deque(maxlen=MOST_KEPT)
        self.dropped = 0

    def record(
        self,
        timed: Timed,
        part: RecordBatch,
        effects: Effects,
        *,
        begun_ms: float,
        readable_ms: float,
    ) -> None:
        """Told of a batch that became durable; see `Observer.observe`."""
        if timed.traces:
            self._keep(self._batch(timed, part, effects, begun_ms, readable_ms))
        if timed.ready_ms is not None:
            for span in self._slow(timed, timed.ready_ms, readable_ms):
                self._keep(span)

    def take(self) -> list[SpanRecord]:
        """What was recorded since it was last taken."""
        taken = list(self._spans)
        self._spans.clear()
        return taken

    def _keep(self, span: SpanRecord) -> None:
        self.dropped += len(self._spans) == MOST_KEPT
        self._spans.append(span)

    def _batch(
        self,
        timed: Timed,
        part: RecordBatch,
        effects: Effects,
        begun_ms: float,
        readable_ms: float,
    ) -> SpanRecord:
        first = min(timed.traces)
        parent = timed.traces[first]
        own = batch_span(self._stage, timed)
        counts = {f"headrace.events.{name}": count for name, count in effects.counts.items()}
        return SpanRecord(
            self._stage,
            own,
            parent,
            [text for row, text in timed.traces.items() if row != first],
            _ns(begun_ms),
            _ns(readable_ms),
            {
                "headrace.pipeline": self._pipeline,
                "headrace.stage": self._stage,
                "messaging.destination.name": part.topic,
                "messaging.destination.partition.id": str(part.partition),
                "messaging.kafka.offset": part.first,
                "messaging.batch.message_count": len(part),
                **counts,
            },
        )

    def _slow(self, timed: Timed, ready: I64, readable_ms: float) -> Iterator[SpanRecord]:
        """Spans of the slowest events, each in its own trace."""
        took_ms = readable_ms - timed.log_times_ms
        if took_ms.max() <= self._slow_ms:
            return
        for row in np.argsort(-took_ms, kind="stable")[:MOST_SLOW].tolist():
            if took_ms[row] > self._slow_ms:
                yield self._event(timed, row, float(ready[row]), readable_ms)

    def _event(self, timed: Timed, row: int, ready_ms: float, readable_ms: float) -> SpanRecord:
        parent = timed.traces.get(row, "")
        source = timed.source(row)
        fresh = hashlib.blake2b(f"{self._pipeline} {source}".encode(), digest_size=16).hexdigest()
        own = child_of(parent or f"00-{fresh}-{fresh[:16]}-01", span_id("slow", parent, source))
        begun_ms = readable_ms if timed.begun_ms is None else timed.begun_ms
        log_ms = float(timed.log_times_ms[row])
        return SpanRecord(
            "slow event",
            own,
            parent,
            [],
            _ns(log_ms),
            _ns(readable_ms),
            {
                "headrace.pipeline": self._pipeline,
                "messaging.destination.name": timed.topic,
                "messaging.destination.partition.id": str(timed.partition),
                "messaging.kafka.offset": int(timed.offsets[row]),
                "headrace.ms.device_to_ingest": log_ms - float(timed.event_times_ms[row]),
                "headrace.ms.ingest_to_features": ready_ms - log_ms,
                "headrace.ms.features_to_inference": begun_ms - ready_ms,
                "headrace.ms.inference_to_prediction": readable_ms - begun_ms,
            },
        )


def _ns(time_ms: float) -> int:
    """Nanoseconds, to the microsecond: that much a float of milliseconds since 1970 holds."""
    return round(time_ms * 1000) * 1000
