"""A stream that falls silent on a real bus: its last windows close, and the log says why."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest
from integration.deadletter.plant import GOOD, RIGHT_MAX, Plant

from headrace.schemas.batch import RecordBatch
from headrace.schemas.block import FeatureBlock
from headrace.schemas.pipeline import load_pipeline
from headrace.streams.bus.admin import ensure_topics
from headrace.streams.drill.workers import Workers
from headrace.streams.pipeline import plan_stage
from headrace.streams.sites.positions import settle_positions

pytestmark = pytest.mark.slow

DEADLINE_S = 40.0
EVENTS = 6


class Site(Plant):
    """Windows of a second, closed a second after the stream fell silent."""

    def map(self, top: float, *, share: float = 1.0, lateness_s: float = 1.0) -> None:
        """Deploy a mapping, and what is summarized."""
        super().map(RIGHT_MAX, share=share, lateness_s=lateness_s)
        summary = '\n[summary]\nwindow_s = 1.0\nidle_s = 1.0\nmetrics = ["load"]\n'
        self.file.write_text(self.file.read_text() + summary)
        self.pipeline = load_pipeline(self.file)

    async def values(self, topic: str) -> list[bytes]:
        """What is on a topic, partition by partition."""
        return [v or b"" for records in await self._read(topic) for v in records.values]

    async def again(self) -> list[bytes]:
        """The summaries of the features log, read once more, each partition in one go."""
        plan = plan_stage("serve", self.pipeline, self.folder)
        parts: list[bytes] = []
        for records in await self._read(self.topics.features.name):
            state = plan.agent.new_state(records.topic, records.partition)
            effects = await plan.agent.process(state, records, rebuilt=False)
            outputs = [o for o in effects.outputs if o.topic == self.topics.partials.name]
            parts += (value for output in outputs for value in output.values)
        assert plan.beside is not None
        topic, offsets = self.topics.partials.name, np.arange(len(parts))
        read = RecordBatch(topic, 0, offsets, offsets, [None] * len(parts), list(parts))
        final = plan.beside.agent
        released = await final.process(final.new_state(topic, 0), read, rebuilt=False)
        return [value for output in released.outputs for value in output.values]


@pytest.fixture
def site(request, tmp_path: Path, bus_url: str, store_url: str, unique) -> Site:
    """A new pipeline on each bus in turn."""
    embedded = "tansu" in request.node.callspec.id
    made = Site(tmp_path, bus_url, store_url, unique("idle"), embedded=embedded)

    async def prepare() -> None:
        await ensure_topics(made.options, made.topics.all())
        await settle_positions(
            made.pipeline, made.topics, ["enrich", "serve"], made.options, None, start=None
        )

    asyncio.run(prepare())
    return made


async def test_the_last_windows_close_and_a_replay_closes_the_same(site: Site) -> None:
    """No event comes after them. One of two partitions is used; the other holds nothing up."""
    await site.send([GOOD] * EVENTS)
    workers = Workers(site)
    try:
        workers.start("enrich", "serve")
        give_up = time.monotonic() + DEADLINE_S
        while len(found := await site.values(site.topics.summaries.name)) < EVENTS:
            assert time.monotonic() < give_up, f"{len(found)} of {EVENTS} windows were released"
            await asyncio.sleep(0.2)
        await workers.stop()
    finally:
        workers.end()
    blocks = [FeatureBlock.decode(v) for v in await site.values(site.topics.features.name)]

    assert sorted(b.partition for b in blocks if not len(b)) == [0, 1]
    assert sum(map(len, blocks)) == EVENTS
    assert await site.again() == found
