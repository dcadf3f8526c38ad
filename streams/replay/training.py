"""Training sets: to each label the features that were known of its entity at its time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
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
from headrace.streams.replay.one_log import one_log
from headrace.streams.replay.past import Past, PastLog, closing
from headrace.streams.replay.ranges import Span

_NEVER = np.iinfo(np.int64).min

FOLD_ROWS = 1 << 16
"""Feature rows that are held at most, about."""


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


class _Best:
    """Of each of M labels the best feature row so far, and the rows that are not folded yet.

    Rows come in the order of the log. So many are joined at a time, and what the ones after them
    need to know of them is one time of each entity: memory grows with the labels, not the range.

    Args:
        labels: Moments.
        columns: F, how many features a row has.
        known: A row counts only once the broker had it.
    """

    def __init__(self, labels: LabelRows, columns: int, *, known: bool) -> None:
        self._labels, self._known = labels, known
        self._index = {name: code for code, name in enumerate(dict.fromkeys(labels.entities))}
        self._wanted = np.array([self._index[name] for name in labels.entities], np.int32)
        self._before = np.full(len(self._index), _NEVER)
        self._waiting: list[tuple[I64, FeatureBlock, I64]] = []
        self._count = 0
        self.times = np.full(len(labels), _NEVER)
        self.offsets = np.full(len(labels), -1, np.int64)
        self.partitions = np.zeros(len(labels), np.int64)
        self.values = np.full((len(labels), columns), np.nan)

    def begin(self, state: PartitionState) -> None:
        """Rows that follow have in their averages what `state` was folded from."""
        self.fold()
        for rows in state.online()[:1]:  # every view has the same entities and times
            for name, time_ms in zip(rows.entities, rows.event_times_ms.tolist(), strict=True):
                if name in self._index:
                    code = self._index[name]
                    self._before[code] = max(self._before[code], time_ms)

    def add(self, block: FeatureBlock) -> None:
        """Rows of a block, of the entities that have labels."""
        own = np.array([self._index.get(name, -1) for name in block.entities.names], np.int64)
        codes = own[block.entities.codes]
        rows = np.flatnonzero(codes >= 0)
        if len(rows):
            self._waiting.append((codes[rows], block, rows))
            self._count += len(block)
        if self._count >= FOLD_ROWS:
            self.fold()

    def fold(self) -> None:
        """Take what waits into the best rows."""
        waiting, self._waiting, self._count = self._waiting, [], 0
        if not waiting:
            return
        entities = np.concatenate([codes for codes, _, _ in waiting])
        times = np.concatenate([block.event_times_ms[rows] for _, block, rows in waiting])
        logged = np.concatenate([block.log_times_ms[rows] for _, block, rows in waiting])
        found = newest_as_of(
            entities.astype(np.int32), times, self._wanted, self._labels.times_ms,
            logged if self._known else None, self._before[entities],
        )  # fmt: skip
        # Where an earlier row is newer, no row here is the newest: all that were logged up to it
        # are open to the label, the earlier one too.
        labels = np.flatnonzero(found >= 0)
        labels = labels[times[found[labels]] >= self.times[labels]]
        chosen = found[labels]
        self.times[labels] = times[chosen]
        self.offsets[labels] = np.concatenate([b.offsets[rows] for _, b, rows in waiting])[chosen]
        self.values[labels] = np.concatenate([b.features[rows] for _, b, rows in waiting])[chosen]
        sizes = [len(rows) for _, _, rows in waiting]
        origins = np.repeat([block.partition for _, block, _ in waiting], sizes)
        self.partitions[labels] = origins[chosen]
        np.maximum.at(self._before, entities, np.maximum(times, logged) if self._known else times)


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
        StateError: the topic was made anew meanwhile. Fatal.

    Delivery: reads only, without a group: nothing live is touched.
    """
    begun = {}
    digest = past.definitions.pipeline.digest
    definition, _ = await past.definitions.definition(digest)
    topics = past.definitions.topics
    columns = definition.agent.columns
    rows = _Best(labels, len(columns), known=known)
    stage = ReplayedStage(definition.agent, topics.telemetry.partitions, past.log, past.snapshots)
    async with one_log(past.log, topics.enriched.name, spans):
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
            async for computed in _anew(
                past.log, topics.enriched.name, definition.agent, state, span
            ):
                for block in computed.blocks:
                    rows.add(block)
                said(computed.upto - done)
                done = computed.upto
    rows.fold()
    made = _joined(rows, labels, columns, topics.enriched.name, max_age_ms)
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
    best: _Best, labels: LabelRows, names: tuple[str, ...], topic: str, max_age_ms: int | None
) -> TrainingSet:
    there = best.offsets >= 0
    ages = np.where(there, labels.times_ms - best.times, -1)
    if max_age_ms is not None:
        there &= ages <= max_age_ms
        ages[~there] = -1
    places = zip(best.partitions.tolist(), best.offsets.tolist(), there.tolist(), strict=True)
    return TrainingSet(
        names,
        np.where(there[:, None], best.values, np.nan),
        np.where(there, labels.times_ms - ages, 0),
        ages,
        [f"{topic}[{partition}]@{offset}" if found else "" for partition, offset, found in places],
    )
