"""A topic with records on either bus, for replays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from headrace.schemas.settings import BusSettings
from headrace.schemas.topics import TopicSpec
from headrace.streams.bus.admin import ensure_topics
from headrace.streams.bus.options import client_options
from headrace.streams.client.kafka_bus import KafkaBus


class Logs:
    """Topics of one bus, and what is written to them."""

    def __init__(self, url: str, unique: Callable[[str], str]) -> None:
        self.settings = BusSettings(url=url)
        self.options: dict[str, Any] = client_options(self.settings)
        self._unique = unique
        self._made = 0

    async def topic(self, partitions: int = 1) -> str:
        """A new topic."""
        self._made += 1
        made = self._unique(f"replay{self._made}")
        spec = TopicSpec(made, "telemetry", partitions, 3_600_000, "raw", ours=True)
        await ensure_topics(self.options, [spec])
        return made

    async def write(
        self, topic: str, partition: int, values: Sequence[bytes], *, batch: int = 1000
    ) -> None:
        """Records under keys of their own, in record batches of so many."""
        writer = KafkaBus(self.options).writer(topic)
        await writer.start()
        try:
            for at in range(0, len(values), batch):
                some = values[at : at + batch]
                keys = [b"k%d" % (at + i) for i in range(len(some))]
                headers = [[("n", b"%d" % i)] if i % 7 == 0 else [] for i in range(len(some))]
                await writer.write(partition, keys, some, headers)
        finally:
            await writer.stop()


@pytest.fixture
def logs(bus_url: str, unique: Callable[[str], str]) -> Logs:
    """On either bus."""
    return Logs(bus_url, unique)


@pytest.fixture
def tansu_logs(tansu_url: str, unique: Callable[[str], str]) -> Logs:
    """On the embedded bus."""
    return Logs(tansu_url, unique)


@pytest.fixture
def kafka_logs(kafka_url: str, unique: Callable[[str], str]) -> Logs:
    """On a real Apache Kafka."""
    return Logs(kafka_url, unique)
