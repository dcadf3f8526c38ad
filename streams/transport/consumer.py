"""Faust's consumer for whole batches: hand out, acknowledge, commit, rebalance."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from mode import Service

from headrace.schemas.errors import (
    FatalError,
    OwnershipLostError,
    RetryableError,
)
from headrace.streams.transport.bodies import Bodies
from headrace.streams.transport.bus_client import BusClient
from headrace.streams.transport.flow import Delivered, Flow, rounds
from headrace.streams.transport.options import Partition, StageOptions, log
from headrace.streams.transport.pump import Fetched
from headrace.streams.transport.rounds import Rounds
from headrace.streams.transport.share import Share

if TYPE_CHECKING:
    from headrace.streams.transport.app import StageApp


class BatchMessage(ConsumerMessage):
    """One conductor message that carries one whole batch."""

    __slots__ = ("delivered",)

    def __init__(self, delivered: Delivered, generation: int) -> None:
        topic, partition = delivered.flow.partition
        super().__init__(
            topic,
            partition,
            delivered.first,
            float(delivered.records.log_times_ms[0]) / 1000,
            0,
            None,
            None,
            None,
            None,
            0,
            0,
            TP(topic, partition),
            generation_id=generation,
        )
        self.delivered = delivered


class StageConsumer(driver.Consumer):
    """Whole batches through Faust's conductor to the agent; commits what the stage finished.

    Delivery: at least once. What is committed is, for each partition, the longest prefix of
    batches whose `done` was called, in the order they were handed out; on time, at a revocation
    and at the end. Batches of an earlier assignment are dropped and never acknowledged.
    """

    app: StageApp
    # Faust's name for whom it delegates to; ours needs no thread.
    _thread: BusClient  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.flows: dict[Partition, Flow] = {}
        self._turns: deque[Flow] = deque()
        self._wake = asyncio.Event()
        self._rounds = Rounds()
        self._committing = asyncio.Lock()
        self.committed_at: float | None = None
        self.halted = False
        super().__init__(*args, **kwargs)
        self.bodies = Bodies(self.app.handler, self.fail)
        self.share = Share(self, self.app.handler, self._wake.set)

    @property
    def options(self) -> StageOptions:
        """The stage's settings."""
        return self.app.options

    @property
    def bus(self) -> BusClient:
        """The bus client."""
        return self._thread

    def _new_consumer_thread(self) -> BusClient:  # type: ignore[override]
        return BusClient(self, loop=self.loop, beacon=self.beacon)

    def fail(self, error: BaseException) -> None:
        """End the stage with `error`; nothing more is committed."""
        self.halted = True
        self.app.fail(error)

    # --- hand out -------------------------------------------------------------------------

    def on_fetched(self, fetched: Fetched) -> None:
        """Take in what the pump read. Runs in the event loop."""
        for flow, piece in fetched:
            flow.offer(piece)
        # Before the client asks for more, which it does in the next turn of the loop.
        self._hold(time.monotonic())
        self._wake.set()

    @Service.task
    async def _hand_out(self) -> None:
        while not self.should_stop:
            await self._wake.wait()
            self._wake.clear()
            now = time.monotonic()
            generation = self.app.consumer_generation_id
            again = self._rounds.begin(self._turns, now)
            for delivered in rounds(self._turns, now, small=again <= now):
                await self.callback(BatchMessage(delivered, generation))
            self._after_round(now, again)

    def _after_round(self, now: float, again: float) -> None:
        later = [at for at in (again, *(flow.not_before for flow in self._turns)) if at > now]
        if later:
            self.loop.call_later(min(later) - now, self._wake.set)
        if not self._hold(now):
            for flow in self._turns:
                if flow.bus_paused and not flow.full and not flow.paused:
                    self._thread.pump.resume(flow)

    def _hold(self, now: float) -> bool:
        """Ask the bus for nothing more while little is in hand; whether that is so."""
        holds = self._rounds.holds(self._turns, now)
        if holds:
            for flow in self._turns:
                if not flow.bus_paused:
                    self._thread.pump.pause(flow)
        return holds

    def pause(self, partition: Partition) -> None:
        """Hand out and fetch nothing of a partition; others go on."""
        self.share.paused.add(partition)
        flow = self.flows.get(partition)
        if flow is not None:
            flow.paused = True
            self._thread.pump.pause(flow)

    def resume(self, partition: Partition) -> None:
        """Go on with a paused partition."""
        self.share.paused.discard(partition)
        flow = self.flows.get(partition)
        if flow is not None:
            flow.paused = False
            self._thread.pump.resume(flow)
            self._wake.set()

    # --- commit ---------------------------------------------------------------------------

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit every finished prefix; called by Faust's commit timer."""
        return await self.commit_finished()

    async def commit_finished(self, within_s: float | None = None) -> bool:
        """Commit every finished prefix; False when there was nothing to, or it did not work."""
        async with self._committing:
            due = {
                partition: offset
                for partition, flow in self.flows.items()
                if not flow.closed and (offset := flow.uncommitted()) is not None
            }
            if not due or self.halted:
                return False
            if self.options.transactional:
                self._take_as_committed(due)
                return False
            try:
                await self.commit_offsets(due, within_s=within_s)
            except RetryableError as error:
                log.info("commit: %s", error)
                return False
            except FatalError as error:
                self.fail(error)
                return False
        return True

    def _take_as_committed(self, offsets: dict[Partition, int]) -> None:
        """The handler's transactions have committed what it finished."""
        self.committed_at = time.monotonic()
        for partition, offset in offsets.items():
            self.flows[partition].committed = offset

    async def commit_offsets(
        self, offsets: dict[Partition, int], *, within_s: float | None = None
    ) -> None:
        """Commit these offsets now, under the group's current generation.

        Raises:
            OwnershipLostError: The group refused, or the stage is ending after a fatal error.
            BusUnavailableError: No answer in time; the outcome is unknown.
            BusRefusedError: No right to.
        """
        if self.halted:
            raise OwnershipLostError(
                "commit after a fatal error; the stage is ending, drop the work"
            )
        flows = {partition: self.flows.get(partition) for partition in offsets}
        request = self._thread.commit_offsets(offsets)
        await self._thread.ask(request, tried="commit", within_s=within_s)
        self.committed_at = time.monotonic()
        for partition, offset in offsets.items():
            flow = flows[partition]
            if flow is not None:
                flow.committed = offset

    async def committed(self, partition: Partition) -> int | None:
        """The group's committed offset."""
        return await self._thread.ask(
            self._thread.committed_offset(partition), tried="reading a committed offset"
        )

    async def offset_note(self, partition: Partition) -> str:
        """What was noted beside the group's committed offset."""
        return await self._thread.ask(
            self._thread.offset_note(partition), tried="reading the note of a committed offset"
        )

    async def log_ranges(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
        """First offset and end offset of partitions."""
        return await self._thread.ask(
            self._thread.log_ranges(partitions), tried="reading the range of a log"
        )

    # --- rebalance ------------------------------------------------------------------------

    def set_flows(self, flows: list[Flow]) -> None:
        """Hand out from these partitions from now on, and from no others."""
        self.flows = {flow.partition: flow for flow in flows}
        self._turns = deque(flows)
        for flow in flows:
            self._thread.pump.open(flow)

    def stop_turns(self) -> None:
        """Begin nothing new; what has begun may still be finished."""
        self._turns.clear()
        for flow in self.flows.values():
            flow.closing = True

    def close_flows(self) -> None:
        """Give every partition up: no acknowledgement counts any more."""
        for flow in self.flows.values():
            flow.close()
        self.flows.clear()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish or drop open work, commit what is finished, give the partitions up."""
        await self.share.give_up()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Take the new set over; its batches flow once the handler is ready for them.

        Returns at once: the group must not wait while a stage loads its state.
        """
        if not self.should_stop and not self.halted:
            await self.app.topics.on_partitions_assigned(assigned)
            self.share.take(frozenset((tp.topic, tp.partition) for tp in assigned))
            self.app.rebalancing = False

    def on_out_of_range(self, lost: list[Partition]) -> None:
        """Positions that left the log while it was read. Runs in the event loop."""
        self.add_future(self.share.relocate(lost))

    # --- Faust's own bookkeeping that batches do not need -----------------------------------

    async def verify_all_partitions_active(self) -> None:
        """Nothing: the stage's watchdog reads the transport's properties instead."""

    async def on_stop(self) -> None:
        """Nothing: `StageApp.on_stop` gave everything up before the agents stopped."""
