"""What the contract of outlets asks of its surroundings, in memory and on a real Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from fakes.delivery_world import Crash, MemoryGroup
from fakes.transactions import MemoryBus, MemoryOutlet

from headrace.schemas.protocols import Output
from headrace.schemas.settings import BusSettings
from headrace.streams.bus.options import client_options
from headrace.streams.bus.reads import read_range
from headrace.streams.delivery.ports import Outlet
from headrace.streams.transport.transactions import TransactionalOutlet

START = 5
"""The group's offset at the beginning."""


class OutletWorld(Protocol):
    """One source partition with its group, one output partition, any number of workers."""

    def worker(self) -> Outlet:
        """A further worker's outlet for the partition."""

    def outputs(self, *values: bytes) -> list[Output]:
        """Records for the output partition."""

    def kill_before_commit(self, outlet: Any) -> None:
        """The worker dies in its next transaction: everything was sent, nothing committed."""

    def hang_before_commit(self, outlet: Any) -> asyncio.Event:
        """The worker's next transaction waits there; set when it does."""

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

    def outputs(self, *values: bytes) -> list[Output]:
        return [Output("out", 0, None, list(values))]

    def kill_before_commit(self, outlet: Any) -> None:
        def point(name: str) -> None:
            if name == "in transaction":
                raise Crash(name)

        outlet.point = point

    def hang_before_commit(self, outlet: Any) -> asyncio.Event:
        return _hang(outlet, "offsets")

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

    def __init__(self, url: str, unique: Callable[[str], str]) -> None:
        self._options = client_options(BusSettings(url=url))
        self._source, self._out = unique("source"), unique("out")
        self._group = unique("group")
        self._workers: list[TransactionalOutlet] = []

    async def prepare(self) -> None:
        """Make the topics, and settle where the group begins."""
        admin = AIOKafkaAdminClient(**self._options)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, 1, 1) for name in (self._source, self._out)])
        finally:
            await admin.close()
        async with self._member() as member:
            await member.commit({TopicPartition(self._source, 0): START})

    def _member(self) -> Any:
        member = AIOKafkaConsumer(**self._options, group_id=self._group, enable_auto_commit=False)
        member.assign([TopicPartition(self._source, 0)])
        return member

    async def end(self) -> None:
        """Let go of every worker's connections."""
        for worker in self._workers:
            await worker.close()

    def worker(self) -> TransactionalOutlet:
        self._workers.append(TransactionalOutlet(self._options, self._group, self._source, 0))
        return self._workers[-1]

    def outputs(self, *values: bytes) -> list[Output]:
        return [Output(self._out, 0, None, list(values))]

    def kill_before_commit(self, outlet: Any) -> None:
        async def dead(producer: Any) -> None:
            await asyncio.sleep(0)
            raise Crash("before commit")

        outlet._commit = dead

    def hang_before_commit(self, outlet: Any) -> asyncio.Event:
        return _hang(outlet, "_commit")

    async def visible(self) -> list[bytes]:
        reading = read_range(self._options, self._out, 0, 0, 1 << 40, read_committed=True)
        return [value or b"" async for batch in reading for value in batch.values]

    async def offset(self) -> int | None:
        async with self._member() as member:
            found: int | None = await member.committed(TopicPartition(self._source, 0))
        return found


def _hang(outlet: Any, method: str) -> asyncio.Event:
    there = asyncio.Event()

    async def hung(*args: object) -> None:
        there.set()
        await asyncio.Event().wait()

    setattr(outlet, method, hung)
    return there
