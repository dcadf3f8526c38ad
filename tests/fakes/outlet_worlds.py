"""What the contract of outlets asks of its surroundings, in memory and on a real Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from fakes.delivery_world import MemoryGroup
from fakes.members import GroupMember
from fakes.transactions import MemoryBus, MemoryOutlet

from headrace.schemas.errors import BusUnavailableError
from headrace.schemas.protocols import Output
from headrace.schemas.settings import BusSettings
from headrace.streams.bus.options import client_options
from headrace.streams.bus.reads import read_range
from headrace.streams.delivery.ports import Outlet
from headrace.streams.transport.transactional_outlet import TransactionalOutlet
from headrace.streams.transport.transactions import Transactions, transactional_id

START = 5
"""The group's offset at the beginning."""


class OutletWorld(Protocol):
    """One source partition with its group, one output partition, any number of workers."""

    def worker(self) -> Outlet:
        """A further worker's outlet for the partition."""

    async def take_over(self, outlet: Any) -> None:
        """The group gives the partition to this worker, which fences it and reads its offset."""

    def outputs(self, *values: bytes) -> list[Output]:
        """Records for the output partition."""

    def hang_before_commit(self, outlet: Any) -> asyncio.Event:
        """The worker's next transaction waits there, everything was sent; set when it does."""

    async def visible(self) -> list[bytes]:
        """What a reader of committed records sees, in order."""

    async def offset(self) -> int | None:
        """The group's offset."""


class MemoryWorld:
    """See `OutletWorld`.

    Args:
        kind: The outlet to hold to the contract.
    """

    def __init__(self, kind: type[MemoryOutlet] = MemoryOutlet) -> None:
        self._kind = kind
        self._bus = MemoryBus(MemoryGroup(START))

    def worker(self) -> MemoryOutlet:
        return self._kind(self._bus)

    async def take_over(self, outlet: MemoryOutlet) -> None:
        await outlet.fence()

    def outputs(self, *values: bytes) -> list[Output]:
        return [Output("out", 0, None, list(values))]

    def hang_before_commit(self, outlet: MemoryOutlet) -> asyncio.Event:
        return hang(outlet, "commit")

    async def visible(self) -> list[bytes]:
        return self._bus.visible

    async def offset(self) -> int | None:
        return self._bus.group.offset


class KafkaWorld:
    """See `OutletWorld`.

    Args:
        url: ``kafka://host:port`` of an Apache Kafka.
        unique: Makes names that nobody else uses.
    """

    def __init__(self, url: str, unique: Callable[[str], str], *, partitions: int = 1) -> None:
        self.options = client_options(BusSettings(url=url))
        self.source, self.out = unique("source"), unique("out")
        self.group = unique("group")
        self._partitions = partitions
        self._joined: GroupMember | None = None
        self._workers: list[KafkaWorker] = []

    async def prepare(self) -> None:
        """Make the topics, and settle where the group begins."""
        admin = AIOKafkaAdminClient(**self.options)
        await admin.start()
        try:
            await admin.create_topics(
                [NewTopic(name, self._partitions, 1) for name in (self.source, self.out)]
            )
        finally:
            await admin.close()
        async with self._reader() as reader:
            parts = [TopicPartition(self.source, number) for number in range(self._partitions)]
            await reader.commit(dict.fromkeys(parts, START))

    def _reader(self) -> Any:
        reader = AIOKafkaConsumer(**self.options, group_id=self.group, enable_auto_commit=False)
        reader.assign([TopicPartition(self.source, number) for number in range(self._partitions)])
        return reader

    async def end(self) -> None:
        """Let go of every connection."""
        for worker in self._workers:
            await worker.transactions.close()
        if self._joined is not None:
            await self._joined.leave()

    def worker(self) -> TransactionalOutlet:
        return self.process().outlet(0)

    def process(self) -> KafkaWorker:
        """A further worker."""
        self._workers.append(KafkaWorker(self))
        return self._workers[-1]

    async def join(self, worker: KafkaWorker) -> None:
        """The group goes on with this worker, and without all others."""
        if self._joined is not None:
            await self._joined.leave()
        self._joined = worker.place
        await worker.place.join()

    async def take_over(self, outlet: TransactionalOutlet) -> None:
        worker = next(w for w in self._workers if w.transactions is outlet._transactions)
        await self.join(worker)
        await worker.take_over(outlet)

    def outputs(self, *values: bytes, partition: int = 0) -> list[Output]:
        return [Output(self.out, partition, None, list(values))]

    def hang_before_commit(self, outlet: TransactionalOutlet) -> asyncio.Event:
        return hang(outlet._transactions, "_commit")

    async def visible(self, partition: int = 0) -> list[bytes]:
        reading = read_range(self.options, self.out, partition, 0, 1 << 40, read_committed=True)
        return [value or b"" async for batch in reading for value in batch.values]

    async def offset(self, partition: int = 0) -> int | None:
        async with self._reader() as reader:
            found: int | None = await reader.committed(TopicPartition(self.source, partition))
        return found


class KafkaWorker:
    """A worker without a stage: its place in the group, and its transactions."""

    def __init__(self, world: KafkaWorld) -> None:
        self._source = world.source
        self.place = GroupMember(world.options, world.group, world.source)
        self.name = transactional_id(world.group)
        self.transactions = Transactions(
            world.options, world.group, self.name, self.place, [world.out]
        )

    def outlet(self, partition: int) -> TransactionalOutlet:
        """Of a source partition."""
        return TransactionalOutlet(self.transactions, self._source, partition)

    async def take_over(self, outlet: TransactionalOutlet) -> int | None:
        """Fence, read the offset when it is stable, commit it unchanged with our own note."""
        partition = outlet._source.partition
        while True:
            await outlet.fence()
            try:
                offset = await self.place.offset(partition)
            except BusUnavailableError:
                await asyncio.sleep(0.05)
                continue
            if offset is not None:
                await self.place.commit(partition, offset, self.name)
            return offset


def hang(owner: Any, method: str) -> asyncio.Event:
    """Make a method wait for ever; set when it was called."""
    there = asyncio.Event()

    async def hung(*args: object) -> None:
        there.set()
        await asyncio.Event().wait()

    setattr(owner, method, hung)
    return there
