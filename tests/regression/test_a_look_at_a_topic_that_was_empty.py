"""What comes into a topic that was empty at the first look is seen by the next ones.

Each look sought the beginning of every empty partition anew, which threw away what had been fetched
since: the console's page showed no dead letters where it was opened before the first of them.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import aclosing

import pytest
from aiokafka import AIOKafkaConsumer

from headrace.schemas.settings import BusSettings
from headrace.schemas.topics import TopicSpec
from headrace.streams.bus.admin import ensure_topics
from headrace.streams.bus.newest import newest
from headrace.streams.bus.options import client_options
from headrace.streams.client.kafka_bus import KafkaBus

PARTITIONS = 4
EMPTY_LOOKS = 3


async def test_the_first_record_is_seen(tansu_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every partition, once; and no partition is sought twice where nothing is passed over."""
    sought, seek = [], AIOKafkaConsumer.seek

    def seeking(self: AIOKafkaConsumer, part: object, offset: int) -> None:
        sought.append(part)
        seek(self, part, offset)

    monkeypatch.setattr(AIOKafkaConsumer, "seek", seeking)
    options, topic = client_options(BusSettings(url=tansu_url)), f"letters-{uuid.uuid4().hex[:8]}"
    await ensure_topics(options, [TopicSpec(topic, "dead", PARTITIONS, 3_600_000, "raw", True)])
    writer = KafkaBus(options).writer(topic)
    await writer.start()
    looks = newest(options, topic, rows=500, every_s=0.05, read_committed=False)
    seen: list[bytes | None] = []
    try:
        async with aclosing(looks), asyncio.timeout(30):
            for _ in range(EMPTY_LOOKS):
                assert await anext(looks) == []
            for number in range(PARTITIONS):
                await writer.write(number, [None], [b"%d" % number], [()])
                while len(seen) <= number:
                    seen += [value for batch in await anext(looks) for value in batch.values]
    finally:
        await writer.stop()
    assert seen == [b"0", b"1", b"2", b"3"]
    assert len(sought) == PARTITIONS
