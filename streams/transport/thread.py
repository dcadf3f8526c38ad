"""The thread that owns the bus client: Faust's consumer thread with our client and our fetch."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.abc import ConsumerRebalanceListener  # type: ignore[import-untyped]
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor  # type: ignore[import-untyped]
from aiokafka.structs import OffsetAndMetadata  # type: ignore[import-untyped]
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.threads import WorkerThread

from headrace.schemas.errors import BusUnavailableError, FatalError, TopicError
from headrace.streams.transport import columnar
from headrace.streams.transport.options import Partition, StageOptions, columnar_required, log
from headrace.streams.transport.pump import Fetched, Pump
from headrace.streams.transport.refusals import translate, why_unreachable
from headrace.streams.transport.repairs import repair_aiokafka

repair_aiokafka()

if TYPE_CHECKING:
    from headrace.streams.transport.consumer import StageConsumer

T = TypeVar("T")

_LEAVE_S = 3.0


class DaemonWorker(WorkerThread):
    """A worker thread that a hung broker cannot use to keep the process alive."""

    def __init__(self, service: Any, **kwargs: Any) -> None:
        super().__init__(service, **kwargs)
        self.daemon = True


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # untyped base
    """Stops the pump before a rebalance, and leaves new partitions held until they are opened."""

    def __init__(self, thread: BusThread) -> None:
        self._thread = thread

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Nothing is fetched any more; open work is finished and committed in the event loop."""
        self._thread.pump.hold_all()
        self._thread.app.rebalancing = True
        await self._thread.on_partitions_revoked({TP(*tp) for tp in revoked})

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Nothing is fetched before the stage opened the partitions."""
        self._thread.pump.hold_all()
        generation = self._thread._ensure_consumer()._coordinator.generation
        self._thread.app.consumer_generation_id = generation
        await self._thread.on_partitions_assigned({TP(*tp) for tp in assigned}, generation)


class BusThread(driver.AIOKafkaConsumerThread):
    """Runs the one `AIOKafkaConsumer` of a stage in its own loop.

    Heartbeats go on while the stage computes. `ask` carries a request over and brings the answer
    back; `tell` carries one over without an answer.
    """

    Worker = DaemonWorker
    consumer: StageConsumer
    pump: Pump
    _fetching: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._rebalance_listener = Listener(self)
        self.columnar = not columnar.missing()

    @property
    def options(self) -> StageOptions:
        """The stage's settings."""
        return self.consumer.options

    def _create_consumer(self, loop: asyncio.AbstractEventLoop) -> AIOKafkaConsumer[Any, Any]:
        return AIOKafkaConsumer(
            partition_assignment_strategy=[RoundRobinPartitionAssignor],
            **self.options.consumer_arguments(),
        )

    async def on_start(self) -> None:
        """Connect, and check that every topic is there.

        Raises:
            BusRefusedError: Credentials, certificate or rights.
            BusUnavailableError: No broker answers.
            TopicError: A topic is missing.
            FatalError: The columnar lane is required and this aiokafka does not offer it.
        """
        self._check_lane()
        try:
            await asyncio.wait_for(super().on_start(), self.options.ask_s)
            found = await asyncio.wait_for(self._ensure_consumer().topics(), self.options.ask_s)
        except Exception as error:  # start boundary: every cause becomes one line
            cause = await why_unreachable(self.options.client_options, error)
            raise translate(cause, tried=f"connecting group {self.options.group!r}") from error
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
        client = self._ensure_consumer()
        # The client waits 0.1 s for unread partitions before it asks for the read ones again.
        client._fetcher._prefetch_backoff = 0.0
        loop, consumer = self.parent_loop, self.consumer

        def deliver(fetched: Fetched) -> None:
            loop.call_soon_threadsafe(consumer.on_fetched, fetched)

        def out_of_range(lost: list[Partition]) -> None:
            loop.call_soon_threadsafe(consumer.on_out_of_range, lost)

        self.pump = Pump(
            client,
            columnar=self.columnar,
            read_committed=self.options.read_committed,
            deliver=deliver,
            out_of_range=out_of_range,
        )
        self._fetching = asyncio.create_task(self._fetch())

    async def _fetch(self) -> None:
        while True:
            try:
                await self.pump.run()
            except Exception as error:  # noqa: BLE001  # task boundary: the stage decides
                problem = translate(error, tried="fetching")
                if isinstance(problem, FatalError):
                    self.parent_loop.call_soon_threadsafe(self.consumer.fail, problem)
                    return
                log.warning("%s", problem)
                await asyncio.sleep(0.5)

    async def on_thread_stop(self) -> None:
        """Stop fetching, leave the group, close the connections; bounded."""
        if self._fetching is not None:
            self._fetching.cancel()
        client, self._consumer = self._consumer, None
        if client is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(client.stop(), _LEAVE_S)
        if self._method_queue is not None:
            await self._method_queue.stop()

    async def stop(self) -> None:
        """Stop, also a thread that is still on its way to its loop: Faust would miss it."""
        thread = self._thread
        # The thread's own loop does not run yet, so there is nothing but its flag to wait for.
        while thread is not None and thread.is_alive() and not self._started.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await super().stop()

    def _start_thread(self) -> None:
        with suppress(Exception):  # reported by `crash`; the thread's own traceback adds nothing
            super()._start_thread()

    def on_crash(self, msg: str, *fmt: Any, **kwargs: Any) -> None:
        """Say nothing: the error is raised by `StageTransport.run`."""

    async def crash(self, reason: BaseException) -> None:
        """End the stage with `reason`, without Faust's pages of log."""
        if not self.parent_loop.is_closed():
            self.parent_loop.call_soon_threadsafe(self._crashed_in_thread, reason)

    def _crashed_in_thread(self, reason: BaseException) -> None:
        if self._thread_running is not None and not self._thread_running.done():
            self._thread_running.set_exception(reason)
        self.consumer.fail(reason)

    async def ask(
        self, request: Coroutine[Any, Any, T], *, tried: str, within_s: float | None = None
    ) -> T:
        """Run a client request in this thread; `within_s` is less than the usual time for it.

        Raises:
            BusUnavailableError: No answer in time, or the thread has ended.
            HeadraceError: What the bus answered, by `refusals.translate`.
        """
        if self._consumer is None or self.thread_loop.is_closed():
            request.close()
            raise BusUnavailableError(f"{tried} came after the bus was left; start the stage again")
        future = asyncio.run_coroutine_threadsafe(request, self.thread_loop)
        try:
            limit = self.options.ask_s if within_s is None else within_s
            return await asyncio.wait_for(asyncio.wrap_future(future), limit)
        except Exception as error:  # door to aiokafka: every cause is translated
            raise translate(error, tried=tried) from error

    def tell(self, call: Any, *args: Any) -> None:
        """Run a plain function in this thread, soon."""
        if self._consumer is not None and not self.thread_loop.is_closed():
            self.thread_loop.call_soon_threadsafe(call, *args)

    async def commit_offsets(self, offsets: dict[Partition, int]) -> None:
        """Commit under the group's current generation. Runs in this thread."""
        named = {TopicPartition(*p): OffsetAndMetadata(o, "") for p, o in offsets.items()}
        await self._ensure_consumer().commit(named)

    async def committed_offset(self, partition: Partition) -> int | None:
        """The group's offset, None when it has none. Runs in this thread."""
        offset: int | None = await self._ensure_consumer().committed(TopicPartition(*partition))
        return None if offset is None or offset < 0 else offset

    async def log_ranges(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
        """First offset and end offset of each partition. Runs in this thread."""
        client = self._ensure_consumer()
        named = [TopicPartition(*partition) for partition in partitions]
        begin, end = await asyncio.gather(
            client.beginning_offsets(named), client.end_offsets(named)
        )
        return {(tp.topic, tp.partition): (begin[tp], end[tp]) for tp in named}
