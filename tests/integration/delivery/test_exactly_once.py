"""A stage that dies at every point of a transaction, on a real Kafka, over a log with gaps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from fakes import delivery_world as world
from fakes.lane_life import CrashingStore
from fakes.members import GroupMember

from headrace.schemas.batch import RecordBatch
from headrace.schemas.errors import FatalError, OwnershipLostError, TopicError
from headrace.schemas.protocols import Effects
from headrace.schemas.settings import BusSettings
from headrace.streams.bus.groups import first_positions
from headrace.streams.bus.options import client_options
from headrace.streams.bus.reads import log_range, read_range
from headrace.streams.delivery.counters import Counters
from headrace.streams.delivery.lane import Lane
from headrace.streams.delivery.ports import StagePorts
from headrace.streams.delivery.runner import StageRunner
from headrace.streams.delivery.share import DeadLetterShare
from headrace.streams.source import StageSource
from headrace.streams.transport.stage import StageTransport
from headrace.streams.transport.transactional_outlet import TransactionalOutlet
from headrace.streams.transport.transactions import Transactions, transactional_id

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DEADLINE_S = 40.0
ROWS = 4
POINTS = ("before commit", "after commit", "before checkpoint", "after checkpoint")


class Agent(world.FoldAgent):
    """The fold, to a topic of its own."""

    def __init__(self, out: str) -> None:
        self._out = out

    async def process(self, state: Any, records: RecordBatch, *, rebuilt: bool) -> Effects:
        effects = await super().process(state, records, rebuilt=rebuilt)
        effects.outputs[0].topic = self._out
        return effects


class Mortal(Transactions):
    """Dies around the commit: nothing of the worker moves any more."""

    fuse: Fuse | None = None

    async def _commit(self, producer: Any) -> None:
        await self._passed("before commit")
        await super()._commit(producer)
        await self._passed("after commit")

    async def _passed(self, name: str) -> None:
        if self.fuse is not None and self.fuse.burns(name):
            await asyncio.Event().wait()


@dataclass
class Fuse:
    """Dies when it passes `name` for the n-th time."""

    name: str
    times: int
    burnt: asyncio.Event = field(default_factory=asyncio.Event)

    def burns(self, name: str) -> bool:
        """Whether this is the moment."""
        self.times -= name == self.name
        if self.times == 0 and name == self.name:
            self.burnt.set()
            return True
        return False

    def __call__(self, name: str) -> None:
        if self.burns(name):
            raise world.Crash(name)


class Scene:
    """A source whose log has gaps, an output topic, a group and a store that outlive a worker."""

    def __init__(self, url: str, unique: Callable[[str], str]) -> None:
        self.options = client_options(BusSettings(url=url))
        self.source, self.out, self.group = unique("source"), unique("out"), unique("group")
        self.store = CrashingStore()
        self.counters = Counters()
        self.transport: StageTransport

    async def prepare(self) -> None:
        """Topics, and the source filled by transactions, every third one aborted."""
        admin = AIOKafkaAdminClient(**self.options)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, 1, 1) for name in (self.source, self.out)])
        finally:
            await admin.close()
        await self._settled()
        async with AIOKafkaProducer(**self.options, transactional_id=self.source) as producer:
            for turn in range(12):
                await producer.begin_transaction()
                for letter in b"abc"[: 1 + turn % 3]:
                    await producer.send_and_wait(self.source, bytes([letter]), partition=0)
                await (
                    producer.abort_transaction() if turn % 3 == 1 else producer.commit_transaction()
                )

    async def _settled(self) -> None:
        """The group begins at the log's start, as soon as every broker knows the new topic."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    await first_positions(self.options, self.group, [self.source], "earliest")
                except TopicError:
                    await asyncio.sleep(0.05)
                else:
                    return

    async def live(self, fuse: Fuse | None) -> None:
        """One worker, until its fuse has burnt or the log is at its end."""
        ended: list[BaseException] = []
        self.store.point = fuse or (lambda name: None)
        name = transactional_id(self.group)
        runner = StageRunner(lambda topic, partition: Lane(ports, topic, partition, fail=fail))
        self.transport = transport = StageTransport(
            group=self.group, topics=[self.source], client_options=self.options, embedded=False,
            handler=runner, batch_rows=ROWS, read_committed=True, transactional=True,
            shutdown_s=0.5, note=name,
        )  # fmt: skip
        transactions = Mortal(self.options, self.group, name, transport)
        transactions.fuse = fuse

        def fail(error: BaseException) -> None:
            ended.append(error)
            transport.fail(error)

        source = StageSource(self.options, transport, read_committed=True)
        ports = StagePorts(
            agent=Agent(self.out), partitions=1, ttl_s={}, store=self.store, source=source,
            group=source, publisher=world.MemoryTopic(lambda name: None), counters=self.counters,
            share=DeadLetterShare(1.0, least_events=10),
            transactions=partial(TransactionalOutlet, transactions),
        )  # fmt: skip
        running = asyncio.create_task(transport.run())
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not ended and not (fuse and fuse.burnt.is_set()) and not await self.at_end():
                    await asyncio.sleep(0.02)
        finally:
            if fuse and fuse.burnt.is_set():
                transport.fail(FatalError("dead"))
                with pytest.raises(FatalError, match="dead"):
                    await running
            else:
                await transport.stop()
                await running
            await transactions.close()  # which commits and aborts nothing
        assert ended == []

    async def at_end(self) -> bool:
        """Whether the worker says that nothing is left: markers of transactions do not count."""
        transport = self.transport
        return transport.ready and bool(transport.lag) and not any(transport.lag.values())

    async def published(self) -> list[bytes]:
        """What a reader of committed records sees."""
        return [value for batch in await self.read(self.out) for value in batch.values if value]

    async def read(self, topic: str) -> list[RecordBatch]:
        """A topic from its beginning to its end."""
        place = await log_range(self.options, topic, 0)
        reading = read_range(self.options, topic, 0, *place, read_committed=True)
        return [batch async for batch in reading]

    async def expected(self) -> list[bytes]:
        """What a fault-free run publishes, computed in one go."""
        agent, values = Agent(self.out), []
        state = agent.new_state(self.source, 0)
        for batch in await self.read(self.source):
            effects = await agent.process(state, batch, rebuilt=False)
            values += effects.outputs[0].values
            effects.delta.fold()
        return values


@pytest.fixture
async def scene(kafka: str, unique: Callable[[str], str]) -> Scene:
    """A new one for each test."""
    made = Scene(kafka, unique)
    await made.prepare()
    return made


@pytest.fixture
def kafka(kafka_url: str) -> str:
    """The session's Kafka, started outside any event loop."""
    return kafka_url


@pytest.mark.parametrize("fate", ["keep", "empty"])
@pytest.mark.parametrize("name", POINTS)
async def test_a_death_at_any_point_doubles_nothing(scene: Scene, name: str, fate: str) -> None:
    """The first batch, then the second one of the next life; the store kept, or lost as well."""
    for times in (1, 2):
        await scene.live(Fuse(name, times))
        if fate == "empty":
            scene.store = CrashingStore()
    await scene.live(None)

    published = await scene.published()
    assert published == await scene.expected()
    assert len(published) == 16


async def test_the_offset_moves_with_the_transactions_only(scene: Scene) -> None:
    """Half-way, the group's offset is that of the last commit, and the worker commits no other."""
    await scene.live(Fuse("before commit", 3))
    done = await scene.published()
    assert len(done) == 2 * ROWS
    await scene.live(None)

    assert await scene.published() == await scene.expected()
    assert scene.counters.expired == 0, "gaps of markers and aborted records are no loss"


async def test_a_zombie_that_wakes_up_in_its_commit(scene: Scene) -> None:
    """Its transaction is full when the successor takes over; its commit comes to nothing."""
    woken, asleep = asyncio.Event(), asyncio.Event()
    place, name = GroupMember(scene.options, scene.group, scene.source), transactional_id("zombie")
    await place.join()
    transactions = Mortal(scene.options, scene.group, name, place)
    zombie = TransactionalOutlet(transactions, scene.source, 0)
    await zombie.fence()
    await place.commit(0, 0, name)
    commit = transactions._commit

    async def late(producer: Any) -> None:
        asleep.set()
        await woken.wait()
        await commit(producer)

    transactions._commit = late  # type: ignore[method-assign]
    outputs = world.FoldAgent().dead(world.records_of([b"a"]), 0, "zombie", world.Fold()).outputs
    outputs[0].topic = scene.out
    publishing = asyncio.create_task(zombie.publish(outputs, 3))
    await asyncio.wait_for(asleep.wait(), DEADLINE_S)
    await place.leave()
    await scene.live(None)
    woken.set()
    with pytest.raises(OwnershipLostError, match="outcome is not known"):
        await publishing
    await transactions.close()

    assert await scene.published() == await scene.expected()
