"""The whole path on one page: what each stage reads, does and writes.

    telemetry ─► ENRICH ─► features ─► SERVE ─► predictions
                   │ late, deadletter    └─► partials ─► SUMMARIZE ─► summaries
                   └─ online rows, checkpoint ─► store

SERVE folds its predictions into parts of windows, partition by partition; SUMMARIZE, which runs in
the same process, makes one summary of them when every partition is past the window. Where devices
do not key their records by entity, INTAKE does so first, onto a topic of its own (``input.rekey``).
A stage is one Faust app and one consumer group ``<pipeline>.<stage>``: the transport hands its
batches to the runner's lanes, a lane asks the agent for the batch's effects and makes them durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from headrace.feature_store.open import open_store
from headrace.feature_store.snapshot_places import open_snapshots
from headrace.feature_store.snapshots import Snapshots
from headrace.feature_store.snapshotting import SnapshottingStore
from headrace.feature_store.store import Store
from headrace.schemas.errors import HeadraceError
from headrace.schemas.numerics import numerics_fingerprint
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.protocols import Agent
from headrace.schemas.topics import topics_of
from headrace.streams.bus.options import client_options
from headrace.streams.client.clock import wall_clock
from headrace.streams.delivery.lane import Lane
from headrace.streams.delivery.ports import StagePorts
from headrace.streams.delivery.retry import retried
from headrace.streams.delivery.runner import StageRunner
from headrace.streams.delivery.share import DeadLetterShare
from headrace.streams.remembering import remember_served
from headrace.streams.resting import Resting, say_rests
from headrace.streams.sites.modes import check_mode
from headrace.streams.source import StageSource
from headrace.streams.transport.publish import KafkaPublisher
from headrace.streams.transport.stage import StageTransport
from headrace.streams.transport.transactional_outlet import TransactionalOutlet
from headrace.streams.transport.transactions import Transactions, transactional_id
from headrace.streams.workers.jobs import BESIDE, Endpoints
from headrace.streams.workers.running_stage import RunningStage, StagePlan

T = TypeVar("T")

SERVE_BLOCKS = 16
"""Most blocks in one batch of SERVE: what a crash can repeat, and enough rows for one session call
(a full block of the reference job holds about 3,000)."""

READY_LOOK_S = 0.05

CLOSE_S = 3.0
"""Longest wait for the connections to close once the stages have ended."""

FINAL_RECORDS = 512
"""Most partials in one batch of SUMMARIZE: between two batches SERVE has its turn."""


FETCH_BYTES = 8 << 20
LEAST_FETCH_BYTES = (1 << 20) + (64 << 10)
"""A stage fetches this much at once, shared out to the partitions of its topic, but of each no less
than the second, which holds the largest record batch that a broker takes by default: a broker gives
a batch beyond the limit for the first partition of an answer only, and the others would starve."""


def plan_stage(stage: str, pipeline: Pipeline, folder: Path) -> StagePlan:
    """Build a stage's agent: everything that needs no bus and no store.

    Args:
        stage: One of `ALL_STAGES`; what is beside it comes with it.
        pipeline: The pipeline.
        folder: Where its model and registry files are.

    Raises:
        PipelineFileError, ModelError: a file is missing or wrong. Fatal.
    """
    topics, rows = topics_of(pipeline), pipeline.delivery.batch_rows
    # Each stage imports its own layer only: ENRICH starts without onnxruntime, SERVE without the
    # operators, and the first prediction comes that much sooner.
    if stage == "intake":
        from headrace.streams.agents.intake import IntakeAgent

        agent: Agent = IntakeAgent(pipeline, topics)
        return StagePlan(stage, pipeline, topics, topics.telemetry, agent, rows)
    if stage == "enrich":
        from headrace.streams.agents.enrich import enrich_agent

        enrich = enrich_agent(pipeline, topics, folder, numerics_fingerprint())
        return StagePlan(
            stage,
            pipeline,
            topics,
            topics.enriched,
            enrich,
            rows,
            resting=enrich.resting,
            facts=enrich.facts,
        )
    from headrace.serving.scorer import load_scorer
    from headrace.streams.agents.finalise import FinaliseAgent
    from headrace.streams.agents.serve import ServeAgent

    scorer = load_scorer(pipeline, folder)
    agent = ServeAgent(pipeline, topics, scorer)
    final = FinaliseAgent(pipeline, topics)
    beside = StagePlan(
        BESIDE[stage],
        pipeline,
        topics,
        topics.partials,
        final,
        FINAL_RECORDS,
        facts=final.facts,
    )
    return StagePlan(
        stage,
        pipeline,
        topics,
        topics.features,
        agent,
        SERVE_BLOCKS,
        scorer,
        folder=folder,
        beside=beside,
    )


async def run_stage(
    running: RunningStage,
    endpoints: Endpoints,
    stop: asyncio.Event,
    begin: asyncio.Event | None = None,
) -> None:
    """Connect, join the group once `begin` is set (None: at once), and run until `stop` is set.

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
    opened: Store | None = None
    try:
        opened = await _connected(
            stop,
            _patiently("store", lambda: open_store(endpoints.store, name)),
            _patiently("bus", publisher.start),
            begin.wait() if begin is not None else asyncio.sleep(0),
        )
    finally:
        if opened is None:
            await publisher.stop()
    if opened is None:
        return
    store = opened
    if snapshots is not None:
        store = SnapshottingStore(store, snapshots, every_s=endpoints.snapshots.every_s)
    wired: list[tuple[StageTransport, Transactions | None]] = []
    try:
        wired += [
            _wire(one, endpoints, options, store, publisher, snapshots) for one in running.together
        ]
        remembering = asyncio.create_task(_remember_served(running.plan, endpoints))
        try:
            await _run_together(running, [transport for transport, _ in wired], publisher, stop)
        finally:
            remembering.cancel()
    finally:
        closing = [transactions.close() for _, transactions in wired if transactions is not None]
        if running.plan.scorer is not None:
            closing.append(running.plan.scorer.close())
        await _closed(publisher.stop(), store.close(), *closing)


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
        topics=[plan.source.name],
        client_options=options,
        embedded=endpoints.embedded,
        batch_rows=plan.batch_rows,
        shutdown_s=endpoints.shutdown_s,
        fetch_bytes=max(FETCH_BYTES // plan.topics.telemetry.partitions, LEAST_FETCH_BYTES),
        handler=runner,
        read_committed=committed,
        transactional=once,
        note=own_id,
    )
    named = [topic.name for topic in plan.topics.all()]
    transactions = Transactions(options, plan.group, own_id, transport, named) if once else None
    source = StageSource(options, transport, read_committed=committed)
    ports = StagePorts(
        agent=plan.agent,
        partitions=plan.source.partitions,
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


async def _run_together(
    running: RunningStage,
    transports: Sequence[StageTransport],
    publisher: KafkaPublisher,
    stop: asyncio.Event,
) -> None:
    """Run a stage and what is beside it until `stop` is set or one of them fails."""
    first, *others = transports
    over = asyncio.Event()
    tasks = [asyncio.create_task(_say_rests(running, publisher, first))]
    tasks += [asyncio.create_task(_stop_when(stop, transport)) for transport in transports]
    beside = [asyncio.create_task(_run_beside(running, first, other, over)) for other in others]
    try:
        await first.run()
    finally:
        over.set()
        await asyncio.gather(*beside)
        for task in tasks:
            task.cancel()


async def _run_beside(
    running: RunningStage, first: StageTransport, other: StageTransport, over: asyncio.Event
) -> None:
    """Run what is beside a stage once that is ready, so that it starts none the later.

    A task boundary: what ends it ends the stage.
    """
    while not running.ready and not over.is_set():  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(READY_LOOK_S)
    if over.is_set():
        return
    stopping = asyncio.create_task(_stop_when(over, other))
    try:
        await other.run()
    except HeadraceError as error:
        first.fail(error)
    finally:
        stopping.cancel()


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
        await say_rests(
            Resting(plan.pipeline),
            running.partitions,
            plan.resting,
            publisher,
            lambda number: transport.at_end((plan.source.name, number)),
        )
    except HeadraceError as error:
        transport.fail(error)


async def _remember_served(plan: StagePlan, endpoints: Endpoints) -> None:
    if plan.scorer is not None:
        digest = plan.scorer.model.digest
        await remember_served(endpoints.snapshots, plan.pipeline, plan.folder, digest)


async def _connected(
    stop: asyncio.Event, store: Awaitable[Store], *others: Awaitable[Any]
) -> Store | None:
    """The store, once it and all others are there; None where `stop` is set first.

    One that is gone may never come back. Where not all come, a store that is there is closed.
    """
    opening = asyncio.ensure_future(store)
    tasks: list[asyncio.Future[Any]] = [opening, *map(asyncio.ensure_future, others)]
    connecting: asyncio.Future[Any] = asyncio.gather(*tasks)
    stopped = asyncio.ensure_future(stop.wait())
    complete = False
    try:
        await asyncio.wait({connecting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if connecting.done():
            connecting.result()
            complete = True
    finally:
        for task in [stopped, *tasks]:
            task.cancel()
        await asyncio.gather(connecting, *tasks, return_exceptions=True)
        if not complete and not opening.cancelled() and opening.exception() is None:
            await opening.result().close()
    return opening.result() if complete else None


async def _closed(*closing: Coroutine[Any, Any, None]) -> None:
    """Close all side by side, as any of them may be away; what takes longer than `CLOSE_S` is left.

    Raises:
        Exception: what closing one of them raised.
    """
    tasks = [asyncio.create_task(one) for one in closing]
    done, late = await asyncio.wait(tasks, timeout=CLOSE_S)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    for task in done:
        task.result()


async def _patiently(what: str, step: Callable[[], Awaitable[T]]) -> T:
    """A service that is still starting is waited for; one that refuses is an error."""
    return await retried(step, what=f"connecting to the {what}", on_retry=lambda code: None)
