"""Topics with known content, a handler that records what it was given, and a running stage."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from headrace.streams.transport.stage import Delivered, Partition, StageTransport

DEADLINE_S = 40.0


@dataclass(frozen=True)
class Bus:
    """A broker under test."""

    address: str
    embedded: bool
    sasl_address: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        return {"bootstrap_servers": self.address}

    async def topic(self, partitions: int = 4, **configs: str) -> str:
        """A new topic with a name of its own."""
        name = f"transport-{uuid.uuid4().hex[:12]}"
        admin = AIOKafkaAdminClient(**self.options)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
        finally:
            await admin.close()
        return name

    async def fill(self, topic: str, rows: Sequence[int], **options: Any) -> None:
        """Write `rows[p]` records to partition p; the value of each is its number."""
        producer = AIOKafkaProducer(**self.options, **options)
        await producer.start()
        try:
            for partition, count in enumerate(rows):
                await fill_partition(producer, topic, partition, count)
        finally:
            await producer.stop()

    async def committed(self, group: str, topic: str, partitions: int = 4) -> list[int | None]:
        """The group's offsets as the broker has them."""
        consumer = AIOKafkaConsumer(**self.options, group_id=group, enable_auto_commit=False)
        await consumer.start()
        try:
            named = [TopicPartition(topic, partition) for partition in range(partitions)]
            consumer.assign(named)
            return [await consumer.committed(tp) for tp in named]
        finally:
            await consumer.stop()

    def stage(self, topic: str, handler: Any, **options: Any) -> StageTransport:
        """A transport with short times."""
        settings: dict[str, Any] = {"group": f"g-{topic}", "commit_interval_s": 0.1}
        return StageTransport(
            topics=[topic],
            client_options=self.options,
            embedded=self.embedded,
            handler=handler,
            **{**settings, **options},
        )


async def fill_partition(producer: Any, topic: str, partition: int, count: int) -> None:
    written = 0
    while written < count:
        batch = producer.create_batch()
        while written < count:
            value = b"%d" % written
            if batch.append(key=b"k%d" % (written % 7), value=value, timestamp=None) is None:
                break
            written += 1
        await (await producer.send_batch(batch, topic, partition=partition))


@dataclass
class Recorder:
    """Acknowledges every batch at once and keeps what it saw."""

    values: dict[int, list[int]] = field(default_factory=dict)
    offsets: dict[int, list[int]] = field(default_factory=dict)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    calls: list[tuple[str, frozenset[Partition]]] = field(default_factory=list)

    async def assigned(self, partitions: frozenset[Partition]) -> None:
        self.calls.append(("assigned", partitions))

    async def revoked(self, partitions: frozenset[Partition]) -> None:
        self.calls.append(("revoked", partitions))

    async def batch(self, delivered: Delivered) -> None:
        self.keep(delivered)
        delivered.done()

    def keep(self, delivered: Delivered) -> None:
        records = delivered.records
        self.values.setdefault(records.partition, []).extend(
            int(value) for value in records.values if value is not None
        )
        self.offsets.setdefault(records.partition, []).extend(records.offsets.tolist())
        self.sizes.append((records.partition, len(records)))

    @property
    def total(self) -> int:
        return sum(map(len, self.values.values()))


async def until(holds: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait until `holds()`, at most `deadline_s`."""
    end = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        await asyncio.sleep(0.01)


async def until_async(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait until `await holds()`."""
    end = time.monotonic() + DEADLINE_S
    while not await holds():
        assert time.monotonic() < end, f"not within {DEADLINE_S} s: {what}"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def running(stage: StageTransport) -> AsyncIterator[asyncio.Task[None]]:
    """The stage's `run` as a task; stopped and awaited at the end."""
    task = asyncio.create_task(stage.run())
    try:
        yield task
    finally:
        await stage.stop()
        await task
