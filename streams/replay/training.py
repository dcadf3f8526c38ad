"""Training sets: to each label the features that were known of its entity at its time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from headrace.feature_store.asof import newest_as_of
from headrace.schemas.batch import F64, I64
from headrace.schemas.block import FeatureBlock
from headrace.schemas.protocols import PartitionState
from headrace.streams.agents.enrich import EnrichAgent
from headrace.streams.replay.anew import Computed, features_anew
from headrace.streams.replay.history import Begun, ReplayedStage, state_before
from headrace.streams.replay.labels import LabelRows
from headrace.streams.replay.past import Past, PastLog, closing
from headrace.streams.replay.ranges import Span

_NEVER = np.iinfo(np.int64).min


@dataclass(slots=True)
class TrainingSet:
    """M labels and their features.

    Attributes:
        names: F feature columns.
        values: float64 (M, F); NaN is missing, also where a label has no row.
        times_ms: int64 (M,), event time of each label's row; 0 where it has none.
        ages_ms: int64 (M,), the label's time less that; -1 where it has none.
        sources: Event behind each row, ``topic[partition]@offset``; empty where there is none.
        begun: Where the state of each partition comes from.
    """

    names: tuple[str, ...]
    values: F64
    times_ms: I64
    ages_ms: I64
    sources: list[str]
    begun: dict[int, Begun] = field(default_factory=dict)

    @property
    def found(self) -> int:
        """Labels that have features."""
        return int((self.ages_ms >= 0).sum())


@dataclass(slots=True)
class _Rows:
    """Feature rows of the entities that have labels.

    Attributes:
        index: Code of each of E entities.
        reached: int64 (E,), newest event time of each before the span that is read.
    """

    index: dict[str, int]
    reached: I64
    entities: list[I64] = field(default_factory=list)
    times: list[I64] = field(default_factory=list)
    logged: list[I64] = field(default_factory=list)
    before: list[I64] = field(default_factory=list)
    offsets: list[I64] = field(default_factory=list)
    partitions: list[I64] = field(default_factory=list)
    values: list[F64] = field(default_factory=list)

    @classmethod
    def of(cls, names: Iterable[str]) -> _Rows:
        index = {name: code for code, name in enumerate(dict.fromkeys(names))}
        return cls(index, np.full(len(index), _NEVER))

    def begin(self, state: PartitionState) -> None:
        """Rows that follow have in their averages what `state` was folded from."""
        self.reached = np.full(len(self.index), _NEVER)
        for rows in state.online()[:1]:  # every view has the same entities and times
            for name, time_ms in zip(rows.entities, rows.event_times_ms.tolist(), strict=True):
                if name in self.index:
                    self.reached[self.index[name]] = time_ms

    def add(self, block: FeatureBlock) -> None:
        own = np.array([self.index.get(name, -1) for name in block.entities.names], np.int64)
        codes = own[block.entities.codes]
        keep = codes >= 0
        if keep.any():
            self.entities.append(codes[keep])
            self.times.append(block.event_times_ms[keep])
            self.logged.append(block.log_times_ms[keep])
            self.before.append(self.reached[codes[keep]])
            self.offsets.append(block.offsets[keep])
            self.partitions.append(np.full(int(keep.sum()), block.partition, np.int64))
            self.values.append(block.features[keep])


async def training_set(
    past: Past,
    spans: Sequence[Span],
    labels: LabelRows,
    *,
    known: bool = False,
    max_age_ms: int | None = None,
    said: Callable[[int], None] = lambda count: None,
) -> TrainingSet:
    """Features as of each label, computed from the log by the given pipeline file.

    They are the bits that the live stage computes. No row owes anything to an event after its
    label (`newest_as_of`), of those before the spans either.

    Args:
        past: What to read.
        spans: Offsets of the topic that ENRICH reads, by partition.
        labels: Moments.
        known: A row counts only once the broker had it: what a reader could have known then.
        max_age_ms: A row older than this counts as missing; None takes any.
        said: Told how many offsets were done since it was told last.

    Raises:
        BusUnavailableError, StoreUnavailableError: retryable. TopicError: fatal.

    Delivery: reads only, without a group: nothing live is touched.
    """
    rows = _Rows.of(labels.entities)
    begun = {}
    digest = past.definitions.pipeline.digest
    definition, _ = await past.definitions.definition(digest)
    topics = past.definitions.topics
    stage = ReplayedStage(definition.agent, topics.telemetry.partitions, past.log, past.snapshots)
    for span in spans:
        state, begun[span.partition] = await state_before(
            stage,
            topics.enriched.name,
            span.partition,
            span.start,
            first_read=None,
            warm_up=past.warm_up,
        )
        position, done = begun[span.partition].position, span.start
        warm_up = Span(span.partition, position, span.start)
        async for _ in _anew(past.log, topics.enriched.name, definition.agent, state, warm_up):
            pass
        rows.begin(state)
        async for computed in _anew(past.log, topics.enriched.name, definition.agent, state, span):
            for block in computed.blocks:
                rows.add(block)
            said(computed.upto - done)
            done = computed.upto
    made = _joined(rows, labels, definition.agent.columns, topics.enriched.name, known, max_age_ms)
    made.begun = begun
    return made


async def _anew(
    log: PastLog, topic: str, agent: EnrichAgent, state: PartitionState, span: Span
) -> AsyncGenerator[Computed]:
    records = log.read_range(topic, span.partition, span.start, span.stop)
    async with closing(records):
        async for computed in features_anew(agent, state, records, start=span.start):
            yield computed


def _joined(
    rows: _Rows,
    labels: LabelRows,
    names: tuple[str, ...],
    topic: str,
    known: bool,
    max_age_ms: int | None,
) -> TrainingSet:
    none = np.empty(0, np.int64)
    times, logged = np.concatenate([none, *rows.times]), np.concatenate([none, *rows.logged])
    entities = np.concatenate([none, *rows.entities]).astype(np.int32)
    wanted = np.array([rows.index[name] for name in labels.entities], np.int32)
    before = np.concatenate([none, *rows.before])
    found = newest_as_of(
        entities, times, wanted, labels.times_ms, logged if known else None, before
    )
    there = found >= 0
    ages = np.full(len(labels), -1, np.int64)
    ages[there] = labels.times_ms[there] - times[found[there]]
    if max_age_ms is not None:
        there &= ages <= max_age_ms
        ages[~there] = -1
    values = np.full((len(labels), len(names)), np.nan)
    every = np.concatenate([np.empty((0, len(names))), *rows.values])
    values[there] = every[found[there]]
    offsets, partitions = (np.concatenate([none, *c]) for c in (rows.offsets, rows.partitions))
    return TrainingSet(
        names,
        values,
        np.where(there, labels.times_ms - ages, 0),
        ages,
        [
            f"{topic}[{partitions[row]}]@{offsets[row]}" if known_row else ""
            for row, known_row in zip(found.tolist(), there.tolist(), strict=True)
        ],
    )
