"""Workers killed at random times under load: nothing lost, repeats equal, features bit for bit.

`SEEDS` in the environment asks for more runs (`make chaos SEEDS=20`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import random
import uuid
from pathlib import Path

import pytest
from fakes.campaign import LOAD_S, Found, Input, Run, breaches, make_input

from headrace.schemas.settings import BusSettings
from headrace.streams.client import Consumer
from headrace.streams.jobs import STAGES

EVENTS = 24_000
KILLS = 3
SEEDS = int(os.environ.get("SEEDS", "4"))

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def given() -> Input:
    """The same input for every run, so that one fault-free run serves them all."""
    return make_input(7, EVENTS)


@pytest.fixture(scope="module")
def calm(given, tmp_path_factory, kafka_url, store_url) -> Found:
    """What a run without faults leaves."""
    run = new_run(tmp_path_factory.mktemp("calm"), kafka_url, store_url)
    found = asyncio.run(run.go(given, []))
    assert found.repeats == 0
    return found


def new_run(folder: Path, bus: str, store: str) -> Run:
    """A pipeline with a name that nobody used before."""
    return Run(folder, f"kill-{uuid.uuid4().hex[:8]}", bus, store)


def plan(seed: int) -> list[tuple[float, str]]:
    """Seeded times and stages."""
    rng = random.Random(seed)
    return sorted((rng.uniform(0.5, LOAD_S), rng.choice(STAGES)) for _ in range(KILLS))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_sigkill_at_random_times(seed, given, calm, tmp_path, kafka_url, store_url) -> None:
    """Any worker, any time: the ledger of a fault-free run, and no repeat behind the consumer."""
    run = new_run(tmp_path, kafka_url, store_url)
    found = asyncio.run(run.go(given, plan(seed)))

    report(seed, "kill", found)
    assert breaches(given, found, calm) == []
    assert asyncio.run(consumed(run)) == len(found.predictions)


@pytest.mark.parametrize("seed", range(100, 100 + max(1, SEEDS // 4)))
def test_sigkill_and_an_emptied_store(seed, given, calm, tmp_path, kafka_url, store_url) -> None:
    """The store loses everything at each kill: state comes back from the log, bit for bit."""
    run = new_run(tmp_path, kafka_url, store_url)

    def empty() -> None:
        import redis

        redis.Redis.from_url(run.endpoints.store.url).flushall()

    found = asyncio.run(run.go(given, plan(seed), strike=empty))

    report(seed, "kill and empty", found)
    assert breaches(given, found, calm) == []
    assert not any("rebuilt" in p["flags"] for p in found.predictions.values())


async def consumed(run: Run) -> int:
    """Predictions that the shipped consumer hands over, read from the topic's beginning."""
    bus = BusSettings(url=run.endpoints.bus.url)
    count = 0
    topic = run.topics.predictions.name
    async with Consumer(bus, topic, start="earliest", follow=False) as consumer:
        async for batch in consumer.batches():
            count += len(batch)
    return count


def report(seed: int, what: str, found: Found) -> None:
    """One line for the campaign's table."""
    facts = {
        "seed": seed,
        "what": what,
        "predictions": len(found.predictions),
        "raw_repeats": found.repeats,
        "feature_repeats": found.feature_repeats,
        "differing": len(found.differing),
        "dead": len(found.dead),
        "late": len(found.late),
        "windows": len(found.summaries),
    }
    print(json.dumps(facts))


def doctored(found: Found, **changes: object) -> Found:
    """A copy of what was found, with something changed."""
    return dataclasses.replace(found, **changes)


def test_the_ledger_sees_what_it_looks_for(given, calm) -> None:
    """A lost event, a changed score, a changed feature, a lost window: each is a breach."""
    place = next(iter(calm.predictions))
    lost = {k: v for k, v in calm.predictions.items() if k != place}
    changed = calm.predictions | {place: calm.predictions[place] | {"score": 0.123}}
    other = calm.features | {place: b"\0" * 64}
    fewer = dict(list(calm.summaries.items())[1:])

    assert breaches(given, calm, calm) == []
    assert breaches(given, doctored(calm, predictions=lost), calm)
    assert breaches(given, doctored(calm, predictions=changed), calm)
    assert breaches(given, doctored(calm, features=other), calm)
    assert breaches(given, doctored(calm, summaries=fewer), calm)
    assert breaches(given, doctored(calm, out_of_order=1), calm)
