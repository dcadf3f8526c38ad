"""A seeded run: a load, its faults, a drain, and a fault-free run over the same log."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from headrace.schemas.errors import FatalError, RetryableError
from headrace.schemas.topics import TopicSpec
from headrace.streams.drill.kinds import Kind
from headrace.streams.drill.ledger import Found, understand
from headrace.streams.drill.load import Fleet, Load
from headrace.streams.drill.memory import Memory, longest
from headrace.streams.drill.schedule import Fault, Plan
from headrace.streams.drill.sender import Sender
from headrace.streams.drill.services import Services
from headrace.streams.drill.strikes import ORDERS, Scene, Struck, strike, unless_failed
from headrace.streams.drill.target import Target
from headrace.streams.drill.verdict import Tally, breaches, repeated, tally
from headrace.streams.drill.workers import ORDERED_WORKER, Workers
from headrace.streams.workers.jobs import STAGES
from headrace.streams.workers.spawning import WORKER

RATE_PER_S = 1000.0
DRAIN_S = 120.0
ANEW_ROWS = 6000


@dataclass(frozen=True)
class Outcome:
    """What came of one run.

    Attributes:
        plan: What was done.
        load: What was sent.
        found: What it left.
        tally: What went wrong, in numbers.
        doubled: Predictions that the shipped consumer handed over twice.
        breaches: What went wrong, in words; empty where nothing did.
        struck: What became of each fault.
        crashes: Workers of each stage that ended by themselves and were started again.
        memories: What each life of each worker held.
    """

    plan: Plan
    load: Load
    found: Found
    tally: Tally
    doubled: int
    breaches: list[str]
    struck: list[Struck]
    crashes: Counter[str]
    memories: list[Memory] = field(default_factory=list)


async def run_plan(
    plan: Plan,
    target: Target,
    calm: Target,
    services: Services,
    *,
    rate_per_s: float = RATE_PER_S,
    least_events: int = 0,
    tell: Callable[[Struck], None] = lambda struck: None,
) -> Outcome:
    """One seeded run and its verdict.

    Args:
        plan: What is done to it.
        target: The pipeline under fire.
        calm: The same flow under another name, which reads the target's telemetry.
        services: Bus and store of both.
        rate_per_s: Events per second, surges aside.
        least_events: Where the faults were through before so many were sent, the rest is sent
            at once.
        tell: Told of every fault that was carried out.

    Raises:
        FatalError: the run did not come to its end, so it says nothing.
    """
    fleet = Fleet(target.pipeline, plan.seed)
    least = max(least_events, ANEW_ROWS if plan.anew else 0)
    struck: list[Struck] = []
    crashes: Counter[str] = Counter()
    memories: list[Memory] = []

    async def act(sender: Sender, workers: Workers) -> None:
        scene = Scene(target, sender, workers, services)
        began_s = time.monotonic()
        recovering = [asyncio.create_task(workers.watch())]
        try:
            for fault in plan.faults:
                await asyncio.sleep(max(0.0, began_s + fault.due_s - time.monotonic()))
                struck.append(await strike(fault, scene))
                tell(struck[-1])
                recovering.append(asyncio.create_task(_recover(struck[-1], scene)))
            await sender.send(max(0, least - fleet.made))
            await asyncio.gather(*recovering[1:])
        finally:
            for task in recovering:
                task.cancel()
            await asyncio.gather(*recovering, return_exceptions=True)
        crashes.update(workers.crashes)
        memories.extend(workers.memories)

    command = ORDERED_WORKER if any(plan.has(kind) for kind in ORDERS) else WORKER
    await under_load(target, fleet, plan.workers, act, rate_per_s=rate_per_s, command=command)
    await in_peace(calm)
    outcome = await judge(plan, fleet.load, target, calm, struck, crashes)
    grown = [breach for life in longest(memories) if (breach := life.breach())]
    return replace(outcome, memories=memories, breaches=outcome.breaches + grown)


async def run_anew(
    kind: Kind, fleet: Fleet, target: Target, calm: Target, services: Services
) -> Outcome:
    """A log begins again under a pipeline that has state of the one before, and its verdict.

    Args:
        kind: Which, and how: the bus is lost while the workers are away, a topic is made anew while
            they run.
        fleet: What is sent to the new log.
        target: The pipeline, at rest.
        calm: The same flow under a name that is new, which reads the target's telemetry.
        services: Bus and store of both.

    Raises:
        FatalError: the run did not come to its end, so it says nothing.
    """
    if kind == "bus-lost":
        await target.begin_anew(services, kind)
    fault = Fault(kind, 0, "any", 0, (), 0)
    async with running(target, STAGES) as workers:
        if kind != "bus-lost":
            await workers.ready()
            await target.begin_anew(services, kind)
            workers.begin_anew("enrich")
            await target.make_topics()
        began_s = time.monotonic()
        async with target.sender(fleet) as sender:
            # Fewer than before: what was done of the log that is gone is not taken for this one's.
            await sender.send(ANEW_ROWS // 2)
        await drained(target, workers)
    struck = Struck(fault, began_s, recovered_s=time.monotonic() - began_s)
    await in_peace(calm)
    plan = Plan(0, STAGES, (fault,))
    return await judge(plan, fleet.load, target, calm, [struck], Counter())


async def judge(
    plan: Plan,
    load: Load,
    target: Target,
    calm: Target,
    struck: list[Struck],
    crashes: Counter[str],
) -> Outcome:
    """Hold what a run left against what was sent and against the fault-free run.

    Raises:
        FatalError: the log is not what was sent.
    """
    sent = {partition: [row.value for row in rows] for partition, rows in load.by_partition.items()}
    if await target.sent() != sent:
        raise FatalError(
            f"the log of {target.topics.telemetry.name} is not what was sent, expected every event "
            f"once, so the drill says nothing; run it again"
        )
    found = understand(load, await target.dump())
    expected = understand(load, await calm.dump())
    allowed = plan.repeats()
    # Exactly once nothing may be there twice, which is counted below on every topic.
    repeats = None if target.once or allowed is None else allowed + crashes
    rows = None if plan.forgets() else target.pipeline.delivery.batch_rows
    wrong = breaches(
        load, found, expected, repeats=repeats, batch_rows=rows, refusing=plan.has("model-raises")
    )
    if target.once:
        wrong += repeated(found)
    if await target.online() != await calm.online():
        wrong.append("store: online rows differ from the fault-free run")
    sources = Counter(await target.consumed()) - target.handed_over
    if sources.keys() != found.predictions.first.keys():
        wrong.append(f"consumer: {len(sources)} of {len(found.predictions.first)} predictions")
    doubled = sources.total() - len(sources)
    if doubled:
        wrong.append(f"consumer: {doubled} predictions twice")
    counts = tally(load, found, expected)
    return Outcome(plan, load, found, counts, doubled, wrong, struck, crashes)


async def under_load(
    target: Target,
    fleet: Fleet,
    workers: tuple[str, ...],
    act: Callable[[Sender, Workers], Awaitable[None]],
    *,
    rate_per_s: float = RATE_PER_S,
    command: Sequence[str] = WORKER,
) -> None:
    """Send a fleet's events to running workers while `act` does its worst, until all is drained.

    Raises:
        FatalError: it was not drained in time, or a worker ended for good.
    """
    async with running(target, workers, command) as started:
        async with target.sender(fleet) as sender:
            enough = asyncio.Event()
            async with unless_failed(sender.trickle(rate_per_s, enough)):
                await act(sender, started)
                enough.set()
        await drained(target, started)


async def in_peace(target: Target) -> None:
    """Run a pipeline over a log that is there already.

    Raises:
        FatalError: it was not drained in time, or a worker ended for good.
    """
    async with running(target, STAGES) as started:
        await drained(target, started)


@asynccontextmanager
async def running(
    target: Target, workers: tuple[str, ...], command: Sequence[str] = WORKER
) -> AsyncIterator[Workers]:
    """Workers of a pipeline that was not run before; stopped in order unless something failed."""
    await target.prepare()
    started = Workers(target, command)
    started.start(*workers)
    try:
        yield started
        await started.stop()
    finally:
        started.end()


async def drained(target: Target, workers: Workers) -> None:
    """Wait until every stage has done everything that is there.

    Raises:
        FatalError: not within `DRAIN_S`, or a worker ended for good.
    """
    await _through(await target.ends(target.topics.telemetry.name), target, workers)


async def _through(ends: dict[int, int], target: Target, workers: Workers) -> None:
    """Wait until everything below `ends` of telemetry has gone through every stage."""
    topics = target.topics
    await workers.reached("enrich", ends, within_s=DRAIN_S)
    await workers.reached("serve", await _ends(target, topics.features), within_s=DRAIN_S)
    await workers.reached("summarize", await _ends(target, topics.partials), within_s=DRAIN_S)


async def _ends(target: Target, topic: TopicSpec) -> dict[int, int]:
    """Where a topic's partitions end, whatever strikes meanwhile."""
    while True:
        try:
            return await target.ends(topic.name)
        except RetryableError as error:  # the next fault has struck
            await asyncio.sleep(error.retry_after_s)


async def _recover(struck: Struck, scene: Scene) -> None:
    """Note how long everything that was sent until the repair took to go through."""
    ends = dict(scene.sender.acknowledged)
    await _through(ends, scene.target, scene.workers)
    struck.recovered_s = time.monotonic() - struck.repaired_at_s
