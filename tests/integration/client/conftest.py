"""A topic of predictions on a real bus."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from headrace.schemas.settings import BusSettings
from headrace.schemas.topics import TopicSpec
from headrace.streams.bus.admin import ensure_topics
from headrace.streams.bus.options import client_options
from headrace.streams.client.kafka_bus import KafkaBus

SOURCE = "headrace.press.telemetry.v1"


def prediction(partition: int, offset: int, rev: int) -> bytes:
    """One prediction as a worker publishes it."""
    return msgspec.json.encode(
        {
            "id": f"{partition}-{offset}",
            "rev": rev,
            "event_id": f"e{offset}",
            "device_id": "press-07",
            "event_time": "2026-11-21T10:00:00.000Z",
            "score": 0.5,
            "label": "normal",
            "confidence": 0.5,
            "tier": "light",
            "flags": [],
            "feature_age_ms": 0,
            "model": {"name": "m", "version": 1, "digest": "9f2c41d0"},
            "source": f"{SOURCE}[{partition}]@{offset}",
            "times_ms": {"device": 0, "ingest": 10_000 + offset, "served": 0},
        }
    )


class World:
    """Two partitions of predictions that a test publishes into."""

    def __init__(self, settings: BusSettings, topic: str) -> None:
        self.settings, self.topic = settings, topic
        self.options = client_options(settings)

    async def publish(self, offsets: Sequence[int], partition: int = 0, rev: int = 0) -> None:
        """Predictions of these source offsets, as one worker writes them."""
        writer = KafkaBus(self.options).writer(self.topic)
        await writer.start()
        try:
            values = [prediction(partition, offset, rev) for offset in offsets]
            await writer.write(partition, [None] * len(values), values, [()] * len(values))
        finally:
            await writer.stop()


async def new_world(url: str, topic: str) -> World:
    """A new topic on one bus."""
    world = World(BusSettings(url=url), topic)
    spec = TopicSpec(world.topic, "predictions", 2, 3_600_000, "derived", ours=True)
    await ensure_topics(world.options, [spec])
    return world


@pytest.fixture
async def world(bus_url: str, unique) -> World:
    """Predictions on each bus in turn."""
    return await new_world(bus_url, unique("predictions"))


@pytest.fixture
async def kafka_world(kafka_url: str, unique) -> World:
    """Predictions on Apache Kafka."""
    return await new_world(kafka_url, unique("predictions"))
