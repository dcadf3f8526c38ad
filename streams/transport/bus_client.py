"""The stage's bus client, as the service that Faust's consumer delegates to.

Faust runs its client in a thread of its own. Here it shares the stage's event loop: on a few cores
two threads that pass every fetch through the interpreter lock cost more than they save (ADR 0010),
and a batch is computed in milliseconds, far within a heartbeat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.abc import ConsumerRebalanceListener  # type: ignore[import-untyped]
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor  # type: ignore[import-untyped]
from aiokafka.errors import KafkaConnectionError  # type: ignore[import-untyped]
from aiokafka.structs import OffsetAndMetadata  # type: ignore[import-untyped]
from faust.types import TP
from mode import Service

from headrace.schemas.errors import BusUnavailableError, FatalError, TopicError
from headrace.streams.bus.connection import connect
from headrace.streams.bus.ends import log_ends
from headrace.streams.bus.repairs import repair_aiokafka
from headrace.streams.bus.topic_ids import SameTopics
from headrace.streams.transport import columnar
from headrace.streams.transport.group_offsets import Member
from headrace.streams.transport.options import Partition, StageOptions, columnar_required, log
from headrace.streams.transport.pump import Pump
from headrace.streams.transport.refusals import translate
from headrace.streams.transport.stable_offsets import StableOffsets, offset_note

repair_aiokafka()

if TYPE_CHECKING:
    from headrace.streams.transport.consumer import StageConsumer

T = TypeVar("T")

_LEAVE_S = 2.0

LOOK_S = 5.0
"""Between two looks whether a topic was made anew: one small request of a stage."""


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # untyped base
    """Stops the pump before a rebalance, and leaves new partitions held until they are opened."""

    def __init__(self, client: BusClient) -> None:
        self._client = client

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Nothing is fetched any more; open work is finished and committed."""
        self._client.pump.hold_all()
        self._client.consumer.app.rebalancing = True
        await self._client.consumer.on_partitions_revoked({TP(*tp) for tp in revoked})

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Nothing is fetched before the stage opened the partitions."""
        self._client.pump.hold_all()
        consumer = self._client.consumer
        consumer.app.consumer_generation_id = self._client.kafka._coordinator.generation
        await consumer.on_partitions_assigned({TP(*tp) for tp in assigned})


class BusClient(Service):
    """Runs the one `AIOKafkaConsumer` of a stage: joins, fetches, answers requests of the stage.

    Args:
        consumer: Whom fetched batches and rebalances are told to.
    """

    pump: Pump
    columnar: bool

    def __init__(self, consumer: StageConsumer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.consumer = consumer
        self.columnar = not columnar.missing()
        self._kafka: AIOKafkaConsumer[Any, Any] | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._stable = StableOffsets()

    @property
    def options(self) -> StageOptions:
        """The stage's settings."""
        return self.consumer.options

    @property
    def kafka(self) -> AIOKafkaConsumer[Any, Any]:
        """The client, while it is there.

        Raises:
            BusUnavailableError: Before the start, and after the end.
        """
        if self._kafka is None:
            raise BusUnavailableError("the stage has left the bus; start it again")
        return self._kafka

    @property
    def member(self) -> Member:
        """Our place in the group, as the bus last told."""
        coordinator = None if self._kafka is None else self._kafka._coordinator
        if coordinator is None:
            return Member("", 0)
        return Member(coordinator.member_id, coordinator.generation)

    async def on_start(self) -> None:
        """Connect, and check that every topic is there.

        Raises:
            BusRefusedError: Credentials, certificate or rights.
            BusUnavailableError: No broker answers.
            TopicError: A topic is missing.
            FatalError: The columnar lane is required and this aiokafka does not offer it.
        """
        self._check_lane()
        tried = f"connecting group {self.options.group!r}"
        try:
            self._kafka = AIOKafkaConsumer(
                partition_assignment_strategy=[RoundRobinPartitionAssignor],
                **self.options.consumer_arguments(),
            )
            async with asyncio.timeout(self.options.ask_s):
                await self._kafka.start()
            async with asyncio.timeout(self.options.ask_s):
                found = await self._kafka.topics()
        except KafkaConnectionError as error:
            # aiokafka only logs why it could not connect; one connection more tells.
            await connect(self.options.client_options, tried)
            raise translate(error, tried=tried) from error
        except Exception as error:  # start boundary: every cause becomes one line
            raise translate(error, tried=tried) from error
        absent = [topic for topic in self.options.topics if topic not in found]
        if absent:
            names = ", ".join(repr(topic) for topic in absent)
            raise TopicError(
                f"group {self.options.group!r} reads {names}, not on the bus (or not readable by "
                f"this user); create the topics before the stage starts"
            )
        self._start_pump()

    def _check_lane(self) -> None:
        if not self.columnar and columnar_required():
            names = ", ".join(columnar.missing())
            raise FatalError(
                f"columnar fetch is required and aiokafka lacks {names}; "
                f"install the aiokafka version that Headrace names"
            )

    def _start_pump(self) -> None:
        self.pump = Pump(
            self.kafka,
            columnar=self.columnar,
            read_committed=self.options.read_committed,
            deliver=self.consumer.on_fetched,
            out_of_range=self.consumer.on_out_of_range,
        )
        self._fetching = asyncio.create_task(self._fetch())
        if not self.options.embedded:  # it gives no ids
            self._looking = asyncio.create_task(self._look())

    async def _fetch(self) -> None:
        while True:
            try:
                await self.pump.run()
            except Exception as error:  # noqa: BLE001  # task boundary: the stage decides
                problem = translate(error, tried="fetching")
                if isinstance(problem, FatalError):
                    self.consumer.fail(problem)
                    return
                log.warning("%s", problem)
                await asyncio.sleep(0.5)

    async def _look(self) -> None:
        """End the stage where a topic is another one than it was: a takeover looks at its log.

        Where the client itself notices that the topic is gone, the group gives it out anew.
        """
        same = SameTopics(self.options.topics)
        while True:
            try:
                anew = await same.made_anew(self.kafka._client)
            except Exception as error:  # noqa: BLE001  # task boundary: looked at again
                log.debug("looking for topics made anew: %s", type(error).__name__)
                anew = []
            if missed := [topic for topic in anew if topic not in self.pump.noticed]:
                self.consumer.fail(
                    BusUnavailableError(
                        f"topic {missed[0]!r} was made anew under group {self.options.group!r}: "
                        f"it is another log, and taken over anew"
                    )
                )
                return
            self.pump.noticed.difference_update(anew)
            await asyncio.sleep(LOOK_S)

    async def on_stop(self) -> None:
        """Stop fetching, leave the group, close the connections; bounded."""
        for task in (self._fetching, self._looking):
            if task is not None:
                task.cancel()
        client, self._kafka = self._kafka, None
        if client is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LEAVE_S):
                    await client.stop()

    async def crash(self, reason: BaseException) -> None:
        """End the stage with `reason`, without Faust's pages of log."""
        self.consumer.fail(reason)

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group for these topics; Faust's conductor calls it."""
        self.kafka.subscribe(topics=set(topics), listener=Listener(self))

    def close(self) -> None:
        """Nothing: `on_stop` closes."""

    async def ask(
        self, request: Coroutine[Any, Any, T], *, tried: str, within_s: float | None = None
    ) -> T:
        """Await a request to the bus; `within_s` is less than the usual time for it.

        Raises:
            BusUnavailableError: No answer in time, or the bus was left.
            HeadraceError: What the bus answered, by `refusals.translate`.
        """
        if self._kafka is None:
            request.close()
            raise BusUnavailableError(f"{tried} came after the bus was left; start the stage again")
        limit = self.options.ask_s if within_s is None else within_s
        try:
            async with asyncio.timeout(limit):
                return await request
        except Exception as error:  # door to aiokafka: every cause is translated
            raise translate(error, tried=tried) from error

    async def commit_offsets(self, offsets: dict[Partition, int]) -> None:
        """Commit under the group's current generation."""
        note = self.options.note
        named = {TopicPartition(*p): OffsetAndMetadata(o, note) for p, o in offsets.items()}
        await self.kafka.commit(named)

    async def committed_offset(self, partition: Partition) -> int | None:
        """The group's offset, None when it has none."""
        part = TopicPartition(*partition)
        offset: int | None
        if self.options.transactional:
            offset = await self._stable.offset(self.kafka._coordinator, part)
        else:
            offset = await self.kafka.committed(part)
        return None if offset is None or offset < 0 else offset

    async def offset_note(self, partition: Partition) -> str:
        """What stands beside the group's offset."""
        return await offset_note(self.kafka._coordinator, TopicPartition(*partition))

    async def log_ranges(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
        """First offset and end offset of each partition."""
        named = [TopicPartition(*partition) for partition in partitions]
        begin, end = await asyncio.gather(
            self.kafka.beginning_offsets(named), log_ends(self.kafka, named)
        )
        return {(tp.topic, tp.partition): (begin[tp], end[tp]) for tp in named}
