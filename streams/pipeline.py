"""The whole path on one page: what each stage reads, does and writes.

    telemetry ─► ENRICH ─► features ─► SERVE ─► predictions
                   │ late, deadletter    └─ SUMMARIZE ─► summaries
                   └─ online rows, checkpoint ─► store

Where devices do not key their records by entity, INTAKE does so first, onto a topic of its own
(``input.rekey``). A stage is one Faust app and one consumer group ``<pipeline>.<stage>``: the
transport hands its batches to the runner's lanes, a lane asks the agent for the batch's effects and
makes them durable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from headrace.feature_store.open import open_store
from headrace.feature_store.snapshot_places import open_snapshots
from headrace.feature_store.snapshots import Snapshots
from headrace.feature_store.snapshotting import SnapshottingStore
from headrace.feature_store.store import Store
from headrace.schemas.errors import HeadraceError
from headrace.schemas.numerics import numerics_fingerprint
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.protocols import Agent, Output, PartitionState
from headrace.schemas.topics import PipelineTopics, topics_of
from headrace.streams.bus.options import client_options
from headrace.streams.client.clock import wall_clock
from headrace.streams.delivery.counters import Counters
from headrace.streams.delivery.lane import Lane
from headrace.streams.delivery.ports import StagePorts
from headrace.streams.delivery.retry import retried
from headrace.streams.delivery.runner import StageRunner
from headrace.streams.delivery.share import DeadLetterShare
from headrace.streams.health.readings import partition_statuses
from headrace.streams.jobs import Endpoints, PartitionStatus, Seen, StateFacts
from headrace.streams.modes import check_mode
from headrace.streams.observe.stage_observer import StageObserver
from headrace.streams.remembering import remember_served
from headrace.streams.resting import Resting, say_rests
from headrace.streams.source import StageSource
from headrace.streams.transport.publish import KafkaPublisher
from headrace.streams.transport.stage import StageTransport
from headrace.streams.transport.transactional_outlet import TransactionalOutlet
from headrace.streams.transport.transactions import Transactions, transactional_id

if TYPE_CHECKING:
    from headrace.serving.scorer import OnnxScorer

T = TypeVar("T")

SERVE_BLOCKS = 16
"""Most blocks in one batch of SERVE: what a crash can repeat, and enough rows for one session call
(a full block of the reference job holds about 3,000)."""


FETCH_BYTES = 8 << 20
LEAST_FETCH_BYTES = (1 << 20) + (64 << 10)
"""A stage fetches this much at once, shared out to the partitions of its topic, but of each no less
than the second, which holds the largest record batch that a broker takes by default: a broker gives
a batch beyond the limit for the first partition of an answer only, and the others would starve."""


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage, ready to run as soon as bus and store are there.

    Attributes:
        stage: Stage name.
        pipeline: The pipeline.
        topics: Its topics.
        source: Topic it reads.
        agent: Its logic; a serving agent's model has passed its checks.
        scorer: The serving agent's scorer, None for other stages.
        resting: What ENRICH publishes of a partition that rests, None for other stages.
        facts: What ENRICH remembers in one partition's state, None for other stages.
        folder: Where its model and registry files are.
    """

    stage: str
    pipeline: Pipeline
    topics: PipelineTopics
    source: str
    agent: Agent
    scorer: OnnxScorer | None = None
    resting: Callable[[int], Output] | None = None
    facts: Callable[[PartitionState], StateFacts] | None = None
    folder: Path = Path()

    @property
    def group(self) -> str:
        """Consumer group."""
        return f"{self.pipeline.name}.{self.stage}"


def plan_stage(stage: str, pipeline: Pipeline, folder: Path) -> StagePlan:
    """Build a stage's agent: everything that needs no bus and no store.

    Args:
        stage: One of `ALL_STAGES`.
        pipeline: The pipeline.
        folder: Where its model and registry files are.

    Raises:
        PipelineFileError, ModelError: a file is missing or wrong. Fatal.
    """
    topics = topics_of(pipeline)
    # Each stage imports its own layer only: ENRICH starts without onnxruntime, SERVE without the
    # operators, and the first prediction comes that much sooner.
    if stage == "intake":
        from headrace.streams.agents.intake import IntakeAgent

        agent: Agent = IntakeAgent(pipeline, topics)
        return StagePlan(stage, pipeline, topics, topics.telemetry.name, agent)
    if stage == "enrich":
        from headrace.streams.agents.enrich import enrich_agent

        enrich = enrich_agent(pipeline, topics, folder, numerics_fingerprint())
        return StagePlan(
            stage,
            pipeline,
            topics,
            topics.enriched.name,
            enrich,
            resting=enrich.resting,
            facts=enrich.facts,
        )
    from headrace.serving.scorer import load_scorer
    from headrace.streams.agents.serve import ServeAgent

    scorer = load_scorer(pipeline, folder)
    agent = ServeAgent(pipeline, topics, scorer)
    source = topics.features.name
    return StagePlan(stage, pipeline, topics, source, agent, scorer, folder=folder)


@dataclass(slots=True)
class RunningStage:
    """What the status line and the metrics ask of a stage."""

    plan: StagePlan
    counters: Counters = field(default_factory=Counters)
    observer: StageObserver = field(init=False)
    transport: StageTransport | None = None
    runner: StageRunner | None = None
    _facts: dict[int, StateFacts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pipeline = self.plan.pipeline
        self.observer = StageObserver(pipeline.name, self.plan.stage, settings=pipeline.observe)

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
        """What the stage remembers of its devices, None where it remembers none."""
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


def _by_partition(values: Mapping[tuple[str, int], int]) -> dict[int, int]:
    """A stage reads one topic: its partition number says enough."""
    return {partition: value for (_, partition), value in values.items()}


async def run_stage(running: RunningStage, endpoints: Endpoints, stop: asyncio.Event) -> None:
    """Run a stage until `stop` is set.

    Raises:
        SettingsError: exactly-once was asked of the embedded bus. Fatal.
        FatalError: what ended it otherwise.
    """
    name = running.plan.pipeline.name
    if endpoints.tracing:
        running.observer.trace()
    check_mode(running.plan.pipeline, embedded=endpoints.embedded)
    options = client_options(endpoints.bus)
    publisher = KafkaPublisher(options, idempotent=not endpoints.embedded)
    snapshots = open_snapshots(endpoints.snapshots, name, wall_clock)
    store: Store
    connecting = asyncio.gather(
        _patiently("store", lambda: open_store(endpoints.store, name)),
        _patiently("bus", publisher.start),
    )
    if not await _before(stop, connecting):
        await publisher.stop()
        return
    store, _ = connecting.result()
    if snapshots is not None:
        store = SnapshottingStore(store, snapshots, every_s=endpoints.snapshots.every_s)
    transactions: Transactions | None = None
    try:
        transport, transactions = _wire(running, endpoints, options, store, publisher, snapshots)
        beside = [asyncio.create_task(_stop_when(stop, transport))]
        beside += [asyncio.create_task(_say_rests(running, publisher, transport))]
        beside += [asyncio.create_task(_remember_served(running.plan, endpoints))]
        try:
            await transport.run()
        finally:
            for task in beside:
                task.cancel()
    finally:
        if transactions is not None:
            await transactions.close()
        await publisher.stop()
        await store.close()
        if running.plan.scorer is not None:
            await running.plan.scorer.close()


def _wire(
    running: RunningStage,
    endpoints: Endpoints,
    options: dict[str, Any],
    store: Store,
    publisher: KafkaPublisher,
    snapshots: Snapshots | None,
) -> tuple[StageTransport, Transactions | None]:
    """Agent, lanes and transport of one stage, connected; transactions where its mode has them."""
    plan, delivery = running.plan, running.plan.pipeline.delivery
    once = delivery.mode == "exactly-once"
    # SERVE need not wait for the end of a block's transaction: one that is aborted comes again with
    # the same rows, which it has then served (ADR 0020).
    committed = once and plan.stage != "serve"
    own_id = transactional_id(plan.group) if once else ""
    runner = StageRunner(
        lambda topic, partition: Lane(ports, topic, partition, fail=transport.fail)
    )
    transport = StageTransport(
        group=plan.group,
        topics=[plan.source],
        client_options=options,
        embedded=endpoints.embedded,
        batch_rows=SERVE_BLOCKS if plan.stage == "serve" else delivery.batch_rows,
        fetch_bytes=max(FETCH_BYTES // plan.topics.telemetry.partitions, LEAST_FETCH_BYTES),
        handler=runner,
        read_committed=committed,
        transactional=once,
        note=own_id,
    )
    transactions = Transactions(options, plan.group, own_id, transport) if once else None
    source = StageSource(options, transport, read_committed=committed)
    ports = StagePorts(
        agent=plan.agent,
        partitions=plan.topics.telemetry.partitions,
        ttl_s={name: view.ttl_s for name, view in plan.pipeline.stored_views().items()},
        store=store,
        source=source,
        group=source,
        publisher=publisher,
        counters=running.counters,
        share=DeadLetterShare(delivery.dead_letter_share, least_events=delivery.dead_letter_min),
        central=frozenset(t.name for t in plan.topics.all() if t.data == "central"),
        transactions=partial(TransactionalOutlet, transactions) if transactions else None,
        snapshots=snapshots,
        observer=running.observer,
    )
    running.transport, running.runner = transport, runner
    return transport, transactions


async def _stop_when(stop: asyncio.Event, transport: StageTransport) -> None:
    await stop.wait()
    await transport.stop()


async def _say_rests(
    running: RunningStage, publisher: KafkaPublisher, transport: StageTransport
) -> None:
    """A task boundary: what ends it ends the stage."""
    plan = running.plan
    if plan.resting is None:
        return
    try:
        await say_rests(Resting(plan.pipeline), running.partitions, plan.resting, publisher)
    except HeadraceError as error:
        transport.fail(error)


async def _remember_served(plan: StagePlan, endpoints: Endpoints) -> None:
    if plan.scorer is not None:
        digest = plan.scorer.model.digest
        await remember_served(endpoints.snapshots, plan.pipeline, plan.folder, digest)


async def _before(stop: asyncio.Event, connecting: asyncio.Future[Any]) -> bool:
    """Wait for both services, or to be stopped: one that is gone may never come back."""
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({connecting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
    if connecting.done():
        return True
    connecting.cancel()
    with suppress(asyncio.CancelledError):
        await connecting
    return False


async def _patiently(what: str, step: Callable[[], Awaitable[T]]) -> T:
    """A service that is still starting is waited for; one that refuses is an error."""
    return await retried(step, what=f"connecting to the {what}", on_retry=lambda code: None)
