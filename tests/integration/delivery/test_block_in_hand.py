"""With exactly-once, SERVE reads a block before its transaction ends, on a real Kafka."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from integration.deadletter.plant import DEADLINE_S, GOOD
from integration.delivery.test_mode_switch import Switching

from headrace.schemas.block import FeatureBlock
from headrace.streams.bus.reads import log_ranges, read_range
from headrace.streams.drill.workers import Workers

pytestmark = pytest.mark.slow

EVENTS, AHEAD = 40, 1000


class Reading(Switching):
    """A plant of which a reader sees committed predictions."""

    mode = "exactly-once"

    async def committed_predictions(self) -> Counter[str]:
        """How often each event id was predicted, for a reader of committed records."""
        topic, options, found = self.topics.predictions.name, self.options, Counter[str]()
        for partition, place in (await log_ranges(options, topic)).items():
            async for batch in read_range(options, topic, partition, *place, read_committed=True):
                found.update(json.loads(value)["event_id"] for value in batch.values if value)
        return found

    async def until(self, events: dict[str, int]) -> None:
        """Wait until exactly these are predicted."""
        async with asyncio.timeout(DEADLINE_S):
            while await self.committed_predictions() != events:
                await asyncio.sleep(0.1)

    async def following(self) -> FeatureBlock:
        """The rows that were made last, as those of events that come later."""
        read = await self._read(self.topics.features.name)
        blocks = [FeatureBlock.decode(v) for records in read for v in records.values if v]
        last = next(block for block in reversed(blocks) if len(block))
        ids = [b"e%d" % (AHEAD + n) for n in range(len(last))]
        offsets = last.offsets + AHEAD
        return replace(last, offsets=offsets, log_times_ms=last.log_times_ms + 1, event_ids=ids)

    async def write(self, producer: AIOKafkaProducer, *blocks: FeatureBlock) -> None:
        """Blocks in the transaction in hand."""
        for block in blocks:
            topic, value = self.topics.features.name, block.encode()
            await producer.send_and_wait(topic, value, partition=block.partition)


@pytest.fixture
def plant(tmp_path: Path, kafka_url: str, store_url: str, unique) -> Reading:
    """A new pipeline on Apache Kafka."""
    made = Reading(tmp_path, kafka_url, store_url, unique("ahead"), embedded=False)
    made.map(GOOD)
    asyncio.run(made.prepare())
    return made


async def test_what_is_taken_back_and_comes_again_is_served_once(plant: Reading) -> None:
    """Predictions come while the block's transaction is open, and not again after its abort."""
    workers = Workers(plant)
    options = {**plant.options, "transactional_id": plant.name}
    try:
        workers.start("enrich", "serve")
        await workers.ready()
        await plant.send([GOOD] * EVENTS)
        once = {f"e{n}": 1 for n in range(EVENTS)}
        await plant.until(once)
        await workers.terminate("enrich")
        block = await plant.following()
        once |= {name.decode(): 1 for name in block.event_ids}
        async with AIOKafkaProducer(**options) as producer:
            await producer.begin_transaction()
            await plant.write(producer, block)
            await plant.until(once)
            await producer.abort_transaction()
            async with producer.transaction():
                middle = len(block) // 2
                await plant.write(producer, block.slice(0, middle), block.slice(middle, len(block)))
        ends = await log_ranges(plant.options, plant.topics.features.name)
        last = {p: max(0, end - 1) for p, (_, end) in ends.items()}
        await workers.reached("serve", last, within_s=DEADLINE_S)
        await workers.stop()
    finally:
        workers.end()

    assert await plant.committed_predictions() == once
