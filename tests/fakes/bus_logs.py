"""Logs to ask for their ends: in memory, with faults, and on a real bus."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.protocol.fetch import FetchRequest

from headrace.schemas.settings import BusSettings
from headrace.schemas.topics import TopicSpec
from headrace.streams.bus.admin import ensure_topics
from headrace.streams.bus.options import client_options
from headrace.streams.client.kafka_bus import KafkaBus

SILENT, HANGING = "silent", "hanging"
"""Answers of a fault: one without the partitions, and none."""


class FakeLogs:
    """As much of a consumer as asking for ends needs; it lists them as the embedded bus does.

    Attributes:
        faults: What befalls the next fetches, one each: an error's code, or a word of above.
        hung: Set when a fetch hangs.
        looked_for_leaders: How often new metadata was asked for.
    """

    def __init__(self, topic: str = "t", partitions: int = 1, *, timeout_ms: int = 1000) -> None:
        self.parts = [TopicPartition(topic, number) for number in range(partitions)]
        self.faults: deque[int | str] = deque()
        self.hung = asyncio.Event()
        self.looked_for_leaders = 0
        self._batches: dict[TopicPartition, list[int]] = defaultdict(list)
        self._request_timeout_ms = timeout_ms
        self._fetcher = SimpleNamespace(_isolation_level=0)
        self._client = self.cluster = self
        self.consumer: Any = self

    async def write(self, part: TopicPartition, rows: int) -> None:
        """One record batch of so many records."""
        self._batches[part].append(rows)

    async def end_offsets(self, parts: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {
            part: sum(batches[:-1]) + 1 if (batches := self._batches[part]) else 0 for part in parts
        }

    def leader_for_partition(self, part: TopicPartition) -> int:
        return part.partition % 2

    def force_metadata_update(self) -> None:
        self.looked_for_leaders += 1

    async def send(self, node: int, request: FetchRequest) -> SimpleNamespace:
        fault = self.faults.popleft() if self.faults else 0
        if fault == HANGING:
            self.hung.set()
            await asyncio.Event().wait()
        if fault == SILENT or not request._max_wait_ms:
            return SimpleNamespace(topics=[])
        found = []
        for topic, rows in request._topics:
            parts = [TopicPartition(topic, row[0]) for row in rows]
            assert {self.leader_for_partition(part) for part in parts} == {node}
            ends = [-1 if fault else sum(self._batches[part]) for part in parts]
            found.append((
                topic,
                [(p.partition, fault, end, end) for p, end in zip(parts, ends, strict=True)],
            ))  # fmt: skip
        return SimpleNamespace(topics=found)

    async def stop(self) -> None:
        """Nothing is open."""


class RealLogs:
    """A new topic on a real bus, a producer of whole record batches, and a consumer.

    Args:
        url: The bus.
        topic: A new name.
        partitions: How many.
    """

    def __init__(self, url: str, topic: str, partitions: int) -> None:
        self.options = client_options(BusSettings(url=url))
        self.parts = [TopicPartition(topic, number) for number in range(partitions)]
        self.consumer: Any = None
        self._topic = topic

    async def start(self, **options: Any) -> RealLogs:
        """Make the topic, and connect; `options` are the consumer's."""
        spec = TopicSpec(self._topic, "telemetry", len(self.parts), 3_600_000, "raw", ours=True)
        await ensure_topics(self.options, [spec])
        self.consumer = AIOKafkaConsumer(**self.options, enable_auto_commit=False, **options)
        await self.consumer.start()
        await self.consumer._client.fetch_all_metadata()
        self._writer = KafkaBus(self.options).writer(self._topic)
        await self._writer.start()
        return self

    async def write(self, part: TopicPartition, rows: int) -> None:
        """One record batch of so many records."""
        await self._writer.write(part.partition, [None] * rows, [b"v"] * rows, [()] * rows)

    async def stop(self) -> None:
        await self._writer.stop()
        await self.consumer.stop()


Logs = FakeLogs | RealLogs


async def write_all(logs: Logs, batches: Sequence[Sequence[int]]) -> dict[TopicPartition, int]:
    """Write `batches[p]` to partition p; where each log then ends."""
    for part, sizes in zip(logs.parts, batches, strict=True):
        for rows in sizes:
            await logs.write(part, rows)
    return {part: sum(sizes) for part, sizes in zip(logs.parts, batches, strict=True)}
