"""Stages do not wait for each other: SERVE is stopped under load, and nobody before it notices."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from integration.deadletter.plant import GOOD, RIGHT_MAX, Plant
from integration.transport.harness import Bus

from headrace.schemas.prediction import Prediction
from headrace.streams.bus.admin import ensure_topics
from headrace.streams.bus.reads import log_ranges
from headrace.streams.drill.workers import Workers
from headrace.streams.sites.positions import settle_positions

pytestmark = pytest.mark.slow

DEADLINE_S = 40.0
ROUND = 40
"""Events of one round; each is a second of event time after the one before."""


class Site(Plant):
    """Both stages of one pipeline on the embedded bus."""

    async def lag(self) -> int:
        """Feature blocks that SERVE's group has not done yet."""
        topic = self.topics.features.name
        bus = Bus(str(self.options["bootstrap_servers"][0]), embedded=True)
        done = await bus.committed(f"{self.name}.serve", topic, self.pipeline.topics.partitions)
        ranges = await log_ranges(self.options, topic)
        return sum(end - (done[partition] or 0) for partition, (_, end) in ranges.items())

    async def predicted(self) -> Counter[str]:
        """How often each event id is predicted."""
        return Counter(
            msgspec.json.decode(value or b"", type=Prediction).event_id
            for records in await self._read(self.topics.predictions.name)
            for value in records.values
        )


@pytest.fixture
def site(tmp_path: Path, tansu_url: str, store_url: str, unique) -> Site:
    """A new pipeline."""
    made = Site(tmp_path, tansu_url, store_url, unique("apart"), embedded=True)
    made.map(RIGHT_MAX)

    async def prepare() -> None:
        await ensure_topics(made.options, made.topics.all())
        await settle_positions(
            made.pipeline, made.topics, ["enrich", "serve"], made.options, None, start=None
        )

    asyncio.run(prepare())
    return made


async def until(what: str, look) -> None:
    """Wait until `look` holds."""
    give_up = time.monotonic() + DEADLINE_S
    while not await look():
        assert time.monotonic() < give_up, f"not within {DEADLINE_S:.0f} s: {what}"
        await asyncio.sleep(0.1)


async def test_without_serve_the_others_go_on_and_its_lag_drains_to_zero(site: Site) -> None:
    """ENRICH takes every event while SERVE is away, the lag grows; back, it serves each once."""
    workers, sent = Workers(site), 0

    async def send() -> None:
        nonlocal sent
        await site.send([GOOD] * ROUND, first=sent)
        sent += ROUND

    async def all_featured() -> bool:
        return len(await site.featured()) == sent

    async def all_served() -> bool:
        return await site.lag() == 0 and len(await site.predicted()) == sent

    try:
        workers.start("enrich", "serve")
        await workers.ready()
        await send()
        await until("the first round is served", all_served)
        await workers.terminate("serve")

        lags = []
        for _ in range(3):
            await send()
            await until("ENRICH goes on", all_featured)
            lags.append(await site.lag())
        assert lags[0] < lags[1] < lags[2]
        assert len(await site.predicted()) == ROUND

        workers.start("serve")
        await until("the lag is gone", all_served)
        assert await site.predicted() == Counter({f"e{n}": 1 for n in range(sent)})
        await workers.stop()
    finally:
        workers.end()
