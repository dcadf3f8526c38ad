"""A seeded run: a load, a plan of kills, a drain, and a fault-free run over the same log."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chaos.ledger import Found, breaches, doubled, understand
from chaos.load import Load, make_load
from chaos.pipelines import BATCH_ROWS, Mode, Pipe
from chaos.sender import Sender
from chaos.workers import Workers
from redis.asyncio import Redis

from headrace.streams.client import Consumer
from headrace.streams.jobs import STAGES

EVENTS, SURGE_ROWS = 36_000, 6000
When = Literal["surge", "back", "any"]
Kind = Literal["kill", "rebalance", "store lost", "pause"]
SESSION_S = 8.0
"""After so long without a sign of life a member's partitions go to others."""


@dataclass(frozen=True)
class Strike:
    """One blow.

    Attributes:
        when: ``surge``: after all are ready, in a surge. ``back``: just after all are ready, in
            the backlog that waits for them. ``any``: at any time, ready or not.
        after_s: Time from then to the blow.
        victims: Workers killed together.
        flush: The store is emptied, while the victims are down.
        down_s: Time until they are started again.
        paused: They are stopped for that time and go on, rather than killed.
    """

    when: When
    after_s: float
    victims: tuple[str, ...]
    flush: bool
    down_s: float
    paused: bool = False


@dataclass(frozen=True)
class Plan:
    """What happens to one seed's run."""

    seed: int
    kind: Kind
    workers: tuple[str, ...]
    strikes: tuple[Strike, ...]

    def kills(self) -> Counter[str]:
        """How often a worker of each stage is killed or paused."""
        return Counter(
            victim.partition("-")[0] for strike in self.strikes for victim in strike.victims
        )


def make_plan(seed: int, kind: Kind) -> Plan:
    """Two to four blows of a seeded kind at seeded times."""
    rng = random.Random(f"{kind}/{seed}")
    workers: tuple[str, ...] = STAGES
    if kind in ("rebalance", "pause"):
        workers = (*STAGES, f"{rng.choice(STAGES)}-2")
    strikes = tuple(_strike(rng, kind, workers) for _ in range(rng.randint(2, 4)))
    return Plan(seed, kind, workers, strikes)


def _strike(rng: random.Random, kind: Kind, workers: tuple[str, ...]) -> Strike:
    victims = tuple(sorted(rng.sample(workers, rng.choice([1, 1, 1, 2]))))
    flush, paused, down_s = kind == "store lost", kind == "pause", rng.uniform(0, 1)
    if flush and rng.random() < 0.4:
        victims = ()
    if paused:
        down_s = rng.uniform(0.5, 1.5) * SESSION_S
    when: When = rng.choice(["surge", "surge", "back", "any"])
    span_s = {"surge": 0.3, "back": 0.15, "any": SESSION_S}[when]
    return Strike(when, rng.uniform(0, span_s), victims, flush, down_s, paused)


@dataclass
class Outcome:
    """What came of one run."""

    plan: Plan
    load: Load
    found: Found
    breaches: list[str]
    consumed_twice: int
    aborted: int
    seconds: float


async def run_plan(
    plan: Plan, folder: Path, bus: str, store: str, mode: Mode = "at-least-once"
) -> Outcome:
    """One seeded run and its verdict."""
    began = time.monotonic()
    load = make_load(plan.seed, EVENTS)
    name = f"kill-{uuid.uuid4().hex[:8]}"
    pipe = Pipe(folder, name, bus, store, mode=mode)
    await under_load(pipe, load, plan.workers, lambda s, w: strike_all(plan, s, w, store))
    calm_pipe = Pipe(folder, f"calm-{name}", bus, store, telemetry=pipe.topics.telemetry.name)
    await in_peace(calm_pipe)
    found = understand(load, await pipe.dump())
    calm = understand(load, await calm_pipe.dump())
    rows = None if plan.kind == "store lost" else BATCH_ROWS
    wrong = breaches(load, found, calm, kills=allowed(plan), batch_rows=rows)
    if mode == "exactly-once":
        wrong += doubled(found)
    sent = {partition: [row.value for row in rows] for partition, rows in load.by_partition.items()}
    if await pipe.sent() != sent:
        wrong.append("telemetry: the log is not what was sent, so the run says nothing")
    if await pipe.online() != await calm_pipe.online():
        wrong.append("store: online rows differ from the fault-free run")
    sources = Counter(await consumed(pipe))
    if sources.keys() != found.predictions.first.keys():
        wrong.append(f"consumer: {len(sources)} of {len(found.predictions.first)} predictions")
    twice = sources.total() - len(sources)
    if twice:
        wrong.append(f"consumer: {twice} predictions twice")
    aborted = await pipe.aborted() if mode == "exactly-once" else 0
    return Outcome(plan, load, found, wrong, twice, aborted, time.monotonic() - began)


def allowed(plan: Plan) -> Counter[str]:
    """Repeated stretches allowed per partition and stage: one a kill, and one a lost store."""
    lost = sum(strike.flush for strike in plan.strikes)
    return plan.kills() + Counter(dict.fromkeys(STAGES, lost))


async def under_load(
    pipe: Pipe,
    load: Load,
    workers: tuple[str, ...],
    act: Callable[[Sender, Workers], Awaitable[None]],
) -> None:
    """Send `load` to running workers while `act` does its worst, and wait until all is drained."""
    await pipe.prepare()
    running, enough = Workers(pipe), asyncio.Event()
    running.start(*workers)
    try:
        async with Sender(pipe.options, pipe.topics.telemetry.name, load) as sender:
            trickle = asyncio.create_task(sender.trickle(enough))
            try:
                await act(sender, running)
            finally:
                enough.set()
                await trickle
        await pipe.drained()
        await running.stop()
    finally:
        running.end()


async def in_peace(pipe: Pipe) -> None:
    """Run a pipeline over a log that is there already."""
    await pipe.prepare()
    running = Workers(pipe)
    running.start(*STAGES)
    try:
        await pipe.drained()
        await running.stop()
    finally:
        running.end()


async def strike_all(plan: Plan, sender: Sender, workers: Workers, store: str) -> None:
    """Every blow of a plan, one after another."""
    for strike in plan.strikes:
        surge = None
        if strike.when != "any":
            await workers.ready()
        if strike.when == "surge":
            surge = asyncio.create_task(sender.send(SURGE_ROWS))
        await asyncio.sleep(strike.after_s)
        if strike.paused:
            await workers.pause(*strike.victims, for_s=strike.down_s)
        else:
            workers.kill(*strike.victims)
            if strike.flush:
                await empty(store)
            await asyncio.sleep(strike.down_s)
            workers.start(*strike.victims)
        if surge is not None:
            await surge


async def empty(store: str) -> None:
    """FLUSHALL."""
    client = Redis.from_url(store)
    try:
        await client.flushall()
    finally:
        await client.aclose()


async def consumed(pipe: Pipe) -> list[tuple[int, int]]:
    """Source partition and offset of everything that the shipped consumer hands over."""
    found = []
    topic = pipe.topics.predictions.name
    async with Consumer(pipe.endpoints.bus, topic, start="earliest", follow=False) as consumer:
        async for batch in consumer.batches():
            found += [
                (int(item.source_place.rpartition("[")[2][:-1]), item.source_offset)
                for item in batch
            ]
    return found
