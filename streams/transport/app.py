"""The Faust app of one stage: one agent over one topic of batches, and nothing it does not need."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

import faust
from faust.app.base import BootStrategy
from faust.tables.manager import TableManager
from faust.transport.drivers import aiokafka as driver
from faust.types import EventT, Message, ServiceT
from yarl import URL

from headrace.streams.transport.consumer import BatchMessage, StageConsumer
from headrace.streams.transport.flow import Delivered
from headrace.streams.transport.options import StageOptions

if TYPE_CHECKING:
    from headrace.streams.transport.stage import StageHandler

# Batches are bounded for each partition (`max_in_flight`), so the queue itself never fills.
_QUEUE_BATCHES = 1 << 20


class BatchTopic(faust.Topic):
    """A topic whose messages are whole batches: decoding hands over what was fetched."""

    def __init__(self, app: Any, **kwargs: Any) -> None:
        kwargs["maxsize"] = _QUEUE_BATCHES
        super().__init__(app, **kwargs)

    def _compile_decode(self) -> None:
        async def decode(message: Message, *, propagate: bool = False) -> EventT[Any]:
            if not isinstance(message, BatchMessage):
                raise TypeError(f"{type(message).__name__} on a topic of batches")
            event: EventT[Any] = self.app.create_event(None, message.delivered, None, message)
            return event

        self.decode = decode  # type: ignore[method-assign]  # as faust.Topic does


class BatchStream(faust.Stream[Delivered]):
    """Yields batches. Acknowledging is `Delivered.done`, never the end of an iteration."""

    def __aiter__(self) -> AsyncIterator[Delivered]:
        batches: AsyncGenerator[Delivered, None] = self._batches()
        self._active_agens.add(batches)
        return batches

    async def _batches(self) -> Any:
        self._finalized = True
        started = await self.maybe_start()
        channel: Any = self.channel
        try:
            while not self.should_stop:
                event = await channel.__anext__()
                if not event.value.stale:
                    yield event.value
        except StopAsyncIteration:
            return  # how Faust tells an actor to stop
        finally:
            self._channel_stop_iteration(channel)
            if started:
                await self.stop()
                self.service_reset()


class NoTables(TableManager):
    """A table manager without tables: no wait at start, no recovery at a rebalance."""

    async def on_start(self) -> None:
        """Report at once that every table is known."""
        self._tables_finalized.set()
        self._tables_registered.set()

    async def on_stop(self) -> None:
        """Nothing was started."""

    async def wait_until_recovery_completed(self) -> bool:
        """Nothing to recover."""
        return False


class StageTransportDriver(driver.Transport):
    """Faust's aiokafka transport with the batch consumer."""

    Consumer = StageConsumer


class StageBoot(BootStrategy):
    """Consumer, agent, conductor: no producer, web server, leader election or reply consumer."""

    def server(self) -> Iterable[ServiceT]:
        """Services in the order they start; they stop in the reverse."""
        return [self.app.consumer, self.app.agents, self.app.topics, self.app.tables]


class StageApp(faust.App):
    """One stage as a Faust app."""

    BootStrategy = StageBoot

    def __init__(
        self, options: StageOptions, handler: StageHandler, fail: Callable[[BaseException], None]
    ) -> None:
        self.options = options
        self.handler = handler
        self.fail = fail
        super().__init__(
            options.group,
            broker="kafka://",  # Faust wants a URL; the client is made from `client_options`
            store="memory://",
            autodiscover=False,
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            table_standby_replicas=0,
            broker_session_timeout=options.session_s,
            broker_heartbeat_interval=options.heartbeat_s,
            broker_commit_interval=options.commit_interval_s,
            broker_commit_every=None,
            Stream=BatchStream,
            TableManager=NoTables,
        )
        topic = BatchTopic(self, topics=list(options.topics))
        self.agent(topic, name="stage", concurrency=options.concurrency)(self._stage)

    @property
    def batches(self) -> StageConsumer:
        """The consumer, by its own type; made on first use."""
        return cast("StageConsumer", self.consumer)

    @property
    def connected(self) -> bool:
        """Whether there is a consumer yet."""
        return self._consumer is not None

    async def _stage(self, batches: Any) -> None:
        async for delivered in batches:
            await self.batches.bodies.run(delivered)

    def _new_transport(self) -> Any:
        return StageTransportDriver([URL("kafka://")], self)

    async def on_first_start(self) -> None:
        """Nothing: no data directory is made, there are no tables."""

    async def on_started(self) -> None:
        """Batches may flow; which ones is the consumer's matter."""
        self.flow_control.resume()
        await super().on_started()

    async def on_stop(self) -> None:
        """Finish and commit open work while the agent can still do it."""
        if self.connected:
            await self.batches.share.give_up()

    async def crash(self, reason: BaseException) -> None:
        """End the stage with `reason`; `StageTransport.run` raises it, so nothing is logged."""
        self.fail(reason)

    def _crash(self, reason: BaseException) -> None:
        # A service below that crashed marks the app by this and nothing else.
        self.fail(reason)
