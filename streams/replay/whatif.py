"""What if: old events through another model, threshold or pipeline, beside what was served."""

from __future__ import annotations

import time
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from headrace.schemas.batch import RecordBatch
from headrace.schemas.block import FeatureBlock
from headrace.streams.agents.feature_rows import FeatureRows, join_blocks
from headrace.streams.agents.isolate import Isolated, score_rows
from headrace.streams.replay.anew import features_anew
from headrace.streams.replay.definitions import Candidate, Definition
from headrace.streams.replay.history import Begun, ReplayedStage, state_before
from headrace.streams.replay.one_log import one_log
from headrace.streams.replay.past import Past, closing
from headrace.streams.replay.ranges import Span
from headrace.streams.replay.recorded import Unread, recorded_answers
from headrace.streams.replay.reproduce import SLACK_MS
from headrace.streams.replay.sides import Pairs, Side, pair_up

_END = 1 << 62

BESIDE_ROWS = 50_000
"""So many rows are enough to tell what a row costs."""


@dataclass(frozen=True, slots=True)
class Other:
    """What is tried instead.

    Attributes:
        definition: Makes the features.
        candidate: Scores them.
        beside: What would serve them now: scores the first of them too, to compare the cost.
    """

    definition: Definition
    candidate: Candidate
    beside: Candidate | None = None


@dataclass(slots=True)
class Cost:
    """Processor time.

    Attributes:
        rows: Rows scored.
        scoring_s: Seconds for their scores.
        features_s: Seconds for features, those of the state before the stretch included.
    """

    rows: int = 0
    scoring_s: float = 0.0
    features_s: float = 0.0

    @property
    def us_per_row(self) -> float | None:
        """Microseconds for one score; None where there was none."""
        return self.scoring_s * 1e6 / self.rows if self.rows else None


@dataclass(slots=True)
class Tried:
    """What came of it.

    Attributes:
        pairs: Events side by side: what was served, and what the other says.
        begun: Where the other's state comes from, by partition.
        unread: Records that are no predictions.
        cost: Processor time by the other.
        beside: Processor time by what would serve them now, over the first rows.
        waits_ms: Broker time to served, of each prediction that was served.
        seconds: How long all of it took.
    """

    pairs: Pairs
    begun: dict[int, Begun] = field(default_factory=dict)
    unread: Unread = field(default_factory=Unread)
    cost: Cost = field(default_factory=Cost)
    beside: Cost = field(default_factory=Cost)
    waits_ms: array[int] = field(default_factory=lambda: array("q"))
    seconds: float = 0.0


async def try_otherwise(
    past: Past, other: Other, spans: Sequence[Span], *, said: Callable[[int], None]
) -> Tried:
    """Old events through `other`, beside the predictions that were served of them.

    Args:
        past: What to read.
        other: What is tried.
        spans: Offsets of the topic that ENRICH reads, by partition.
        said: Told how many offsets were done since it was told last.

    Raises:
        BusUnavailableError, StoreUnavailableError: retryable. ModelError, TopicError: fatal.
        StateError: a topic was made anew meanwhile. Fatal.

    Delivery: reads only, without a group: nothing live is touched.
    Memory: about 100 bytes an event, as quantiles and pairs are exact; a partition's twice that
        while its two sides are joined.
    """
    began, tried, parts = time.monotonic(), Tried(Pairs.none()), []
    topics = past.definitions.topics
    async with one_log(past.log, topics.enriched.name, spans, beside=(topics.predictions.name,)):
        for span in spans:
            theirs = await _others(past, other, span, tried, said)
            ours = await _served(past, span, tried)
            parts.append(pair_up(span.partition, ours, theirs))
    tried.pairs = Pairs.joined(parts)
    tried.seconds = round(time.monotonic() - began, 3)
    return tried


async def _others(
    past: Past, other: Other, span: Span, tried: Tried, said: Callable[[int], None]
) -> Side:
    """Features and scores by the other, of one partition."""
    topics = past.definitions.topics
    topic, agent = topics.enriched.name, other.definition.agent
    stage = ReplayedStage(agent, topics.telemetry.partitions, past.log, past.snapshots)
    state, begun = await state_before(
        stage, topic, span.partition, span.start, first_read=None, warm_up=past.warm_up
    )
    tried.begun[span.partition] = begun
    log = past.log.read_range(topic, span.partition, begun.position, span.stop)
    side, done = Side.begin(), span.start
    async with closing(log):
        computed = features_anew(agent, state, log, start=span.start)
        while True:
            began = time.process_time()
            batch = await anext(computed, None)
            tried.cost.features_s += time.process_time() - began
            if batch is None:
                return side.end()
            await _score(side, batch.blocks, other, tried)
            said(max(0, batch.upto - done))
            done = max(done, batch.upto)


async def _score(side: Side, blocks: Sequence[FeatureBlock], other: Other, tried: Tried) -> None:
    if not blocks:
        return
    if other.beside is not None and tried.beside.rows < BESIDE_ROWS:
        await _timed(blocks, other.beside, tried.beside)
    rows, found = await _timed(blocks, other.candidate, tried.cost)
    if found.scores is None:
        return
    at = found.served
    names = [rows.entities.names[code] for code in rows.entities.codes[at].tolist()]
    scores = found.scores.score.astype(np.float64)
    side.add(rows.offsets[at], rows.event_times_ms[at], names, scores, found.scores.high)


async def _timed(
    blocks: Sequence[FeatureBlock], by: Candidate, cost: Cost
) -> tuple[FeatureRows, Isolated]:
    rows = join_blocks(blocks, columns=by.pipeline.model_inputs, metrics=(), attributes=())
    began = time.process_time()
    found = await score_rows(by.scorer, rows.features)
    cost.scoring_s += time.process_time() - began
    cost.rows += len(rows)
    return rows, found


async def _served(past: Past, span: Span, tried: Tried) -> Side:
    """What was served of one partition; of several answers to one event the last."""
    topics, log = past.definitions.topics, past.log
    topic = topics.predictions.name
    first = log.read_range(topics.enriched.name, span.partition, span.start, span.stop)
    async with closing(first):
        records: RecordBatch | None = await anext(first, None)
    since_ms = 0 if records is None else max(0, int(records.log_times_ms[0]) - SLACK_MS)
    start = await log.offset_at(topic, span.partition, since_ms)
    low = past.definitions.pipeline.model.outputs.otherwise
    side = Side.begin()
    reading: AsyncIterator[RecordBatch] = log.read_range(topic, span.partition, start, _END)
    async with closing(reading):
        async for stretch in recorded_answers(reading, tried.unread):
            if stretch.topic != topics.enriched.name:
                continue
            at, to = np.searchsorted(stretch.offsets, (span.start, span.stop)).tolist()
            rows = [a for a in stretch.rows.answers[at:to] if bytes(a.score) != b"null"]
            if rows:
                tried.waits_ms.extend(a.times_ms.served - a.times_ms.ingest for a in rows)
                side.add(
                    np.array([int(a.source.rpartition("@")[2]) for a in rows], np.int64),
                    np.array([a.times_ms.device for a in rows], np.int64),
                    [a.device_id for a in rows],
                    np.array([float(bytes(a.score)) for a in rows], np.float32).astype(np.float64),
                    np.array([a.label != low for a in rows], np.bool_),
                )
    return side.end()
