"""One stage of a worker: what it is made of, and what is known of it while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from headrace.schemas.pipeline import Pipeline
from headrace.schemas.protocols import Agent, Output, PartitionState
from headrace.schemas.topics import PipelineTopics, TopicSpec
from headrace.streams.delivery.counters import Counters
from headrace.streams.delivery.runner import StageRunner
from headrace.streams.health.readings import partition_statuses
from headrace.streams.observe.stage_observer import StageObserver
from headrace.streams.transport.stage import StageTransport
from headrace.streams.workers.jobs import PartitionStatus, Seen, StateFacts

if TYPE_CHECKING:
    from headrace.serving.scorer import OnnxScorer


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage, ready to run as soon as bus and store are there.

    Attributes:
        stage: Stage name.
        pipeline: The pipeline.
        topics: Its topics.
        source: Topic it reads.
        batch_rows: Most records of one batch.
        agent: Its logic; a serving agent's model has passed its checks.
        scorer: The serving agent's scorer, None for other stages.
        resting: What ENRICH publishes of a partition that rests, None for other stages.
        facts: What ENRICH or the finaliser remembers in one partition's state, None for others.
        folder: Where its model and registry files are.
        beside: The stage that runs in the same process.
    """

    stage: str
    pipeline: Pipeline
    topics: PipelineTopics
    source: TopicSpec
    agent: Agent
    batch_rows: int
    scorer: OnnxScorer | None = None
    resting: Callable[[int], Output] | None = None
    facts: Callable[[PartitionState], StateFacts] | None = None
    folder: Path = Path()
    beside: StagePlan | None = None

    @property
    def group(self) -> str:
        """Consumer group."""
        return f"{self.pipeline.name}.{self.stage}"


@dataclass(slots=True)
class RunningStage:
    """What the status line and the metrics ask of a stage."""

    plan: StagePlan
    counters: Counters = field(default_factory=Counters)
    observer: StageObserver = field(init=False)
    transport: StageTransport | None = None
    runner: StageRunner | None = None
    beside: RunningStage | None = field(init=False)
    _facts: dict[int, StateFacts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pipeline = self.plan.pipeline
        self.observer = StageObserver(pipeline.name, self.plan.stage, settings=pipeline.observe)
        self.beside = None if self.plan.beside is None else RunningStage(self.plan.beside)

    @property
    def together(self) -> list[RunningStage]:
        """It and what is beside it."""
        return [self] if self.beside is None else [self, self.beside]

    @property
    def ready(self) -> bool:
        """Every assigned partition is taken over."""
        return (
            self.transport is not None
            and self.runner is not None
            and self.transport.ready
            and self.runner.ready
        )

    def seen(self) -> Seen:
        """What was seen of its batches."""
        seen = self.observer.seen()
        scorer = self.plan.scorer
        if not seen.drift or scorer is None:
            return seen
        return msgspec.structs.replace(seen, model=scorer.model.digest)

    def cache_share(self) -> float | None:
        """Share of predictions that the cache answered, None where there is no cache in use."""
        scorer = self.plan.scorer
        return None if scorer is None else scorer.cache_share()

    def lag(self) -> dict[int, int]:
        """Records behind, by partition."""
        return _by_partition(self.transport.lag if self.transport else {})

    def in_flight(self) -> dict[int, int]:
        """Batches taken and not yet durable, by partition."""
        return _by_partition(self.transport.in_flight if self.transport else {})

    def held(self) -> tuple[int, int]:
        """Bytes on the wire of what was fetched and is not finished, and their bound."""
        if self.transport is None:
            return 0, 0
        return self.transport.held_bytes, self.transport.held_limit_bytes

    def state(self) -> StateFacts | None:
        """What the stage remembers, None where it does not say."""
        if self.plan.facts is None:
            return None
        known, self._facts = self._facts, {}
        for lane in self.runner.lanes if self.runner else ():
            if lane.owned is not None:
                self._facts[lane.partition] = self.plan.facts(lane.owned.state)
            elif lane.partition in known:  # a batch is in work: as it was before
                self._facts[lane.partition] = known[lane.partition]
        return sum(self._facts.values(), StateFacts())

    def partitions(self) -> tuple[PartitionStatus, ...]:
        """Each partition of our share: position, lag, and what its lane has in hand."""
        if self.runner is None:
            return ()
        return partition_statuses(
            self.runner.lanes, lag=self.lag(), in_flight=self.in_flight(), now_s=time.monotonic()
        )

    def served(self) -> tuple[int, int, int]:
        """Session calls, rows scored by the model, rows answered by the cache."""
        scorer = self.plan.scorer
        if scorer is None:
            return 0, 0, 0
        return scorer.batcher.time.calls, scorer.batcher.rows, scorer.cached_rows

    def model(self) -> tuple[str, float, float]:
        """Digest of the model, CPU seconds of its session calls, and of those the cache saved."""
        scorer = self.plan.scorer
        if scorer is None:
            return "", 0.0, 0.0
        return scorer.model.digest, scorer.batcher.cpu_s, scorer.saved_cpu_s


def _by_partition(values: Mapping[tuple[str, int], int]) -> dict[int, int]:
    """A stage reads one topic: its partition number says enough."""
    return {partition: value for (_, partition), value in values.items()}
