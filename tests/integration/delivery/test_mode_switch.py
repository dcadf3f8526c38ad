"""A pipeline that changes its delivery mode between two runs, and back, on a real Kafka."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest
from integration.deadletter.plant import GOOD, RIGHT_MAX, Plant

from headrace.schemas.pipeline import load_pipeline
from headrace.streams.bus.admin import ensure_topics
from headrace.streams.bus.reads import log_ranges
from headrace.streams.drill.workers import Workers
from headrace.streams.sites.positions import settle_positions

pytestmark = pytest.mark.slow

EVENTS = 500
MODES = ("at-least-once", "exactly-once", "at-least-once")


class Switching(Plant):
    """A plant of both stages whose mode is what was deployed last."""

    mode = "at-least-once"

    def map(self, top: float, *, share: float = 1.0, lateness_s: float = 1e6) -> None:
        """Deploy the mapping in the present mode."""
        super().map(RIGHT_MAX, share=share, lateness_s=lateness_s)
        self.file.write_text(self.file.read_text() + f'mode = "{self.mode}"\n')
        self.pipeline = load_pipeline(self.file)

    async def prepare(self) -> None:
        """Make the topics, and settle where both stages begin."""
        await ensure_topics(self.options, self.topics.all())
        stages = ["enrich", "serve"]
        await settle_positions(self.pipeline, self.topics, stages, self.options, None, start=None)

    async def run_once(self, mode: str, first: int) -> None:
        """Deploy a mode, send events, let both stages work them off, and stop in order."""
        self.mode = mode
        self.map(RIGHT_MAX)
        workers = Workers(self)
        try:
            workers.start("enrich", "serve")
            await workers.ready()
            await self.send([GOOD] * EVENTS, first=first)
            await self.drained_to(workers, "enrich", self.topics.telemetry.name)
            marker = int(mode == "exactly-once")
            await self.drained_to(workers, "serve", self.topics.features.name, marker=marker)
            await workers.stop()
        finally:
            workers.end()

    async def drained_to(
        self, workers: Workers, stage: str, topic: str, *, marker: int = 0
    ) -> None:
        """Wait until a stage has done everything of a topic that may end with a marker."""
        ranges = await log_ranges(self.options, topic)
        last = {p: max(begin, end - marker) for p, (begin, end) in ranges.items()}
        await workers.reached(stage, last, within_s=40.0)

    async def predicted(self) -> Counter[str]:
        """How often each event id was predicted."""
        topic = self.topics.predictions.name
        return Counter(
            json.loads(value)["event_id"]
            for records in await self._read(topic)
            for value in records.values
        )


@pytest.fixture
def plant(tmp_path: Path, kafka_url: str, store_url: str, unique) -> Switching:
    """A new pipeline on Apache Kafka."""
    made = Switching(tmp_path, kafka_url, store_url, unique("modes"), embedded=False)
    asyncio.run(made.prepare())
    return made


async def test_nothing_is_lost_or_doubled_by_changing_the_mode(plant: Switching) -> None:
    """Each run goes on where the one before ended, whichever of the two committed that place."""
    for turn, mode in enumerate(MODES):
        await plant.run_once(mode, first=turn * EVENTS)
    once = {f"e{n}": 1 for n in range(EVENTS * len(MODES))}

    assert await plant.featured() == once
    assert await plant.predicted() == once
    assert (await plant.late(), await plant.dead()) == (0, [])
