"""Faust's consumer for whole batches: hand out, acknowledge, commit, rebalance."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from mode import Service

from headrace.schemas.errors import (
    BusUnavailableError,
    FatalError,
    OwnershipLostError,
    RetryableError,
    StateError,
)
from headrace.streams.transport.bodies import Bodies
from headrace.streams.transport.flow import Delivered, Flow, rounds
from headrace.streams.transport.options import Partition, StageOptions, log
from headrace.streams.transport.pump import Fetched
from headrace.streams.transport.thread import BusThread

if TYPE_CHECKING:
    from headrace.streams.transport.app import StageApp
    from headrace.streams.transport.stage import StageHandler

# What cut-off bodies get to end, and what the commit of a revocation may take.
_CUT_OFF_S = 1.0
_LAST_COMMIT_S = 3.0


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
    _thread: BusThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._flows: dict[Partition, Flow] = {}
        self._turns: deque[Flow] = deque()
        self._wake = asyncio.Event()
        self._opening: asyncio.Task[None] | None = None
        self._committing = asyncio.Lock()
        self._giving_up = asyncio.Lock()
        self._starts: dict[Partition, int] = {}
        self._owned: frozenset[Partition] = frozenset()
        self.expired: Counter[Partition] = Counter()
        self.committed_at: float | None = None
        self.halted = False
        self.settled = False
        super().__init__(*args, **kwargs)
        self.bodies = Bodies(self.handler, self.fail)

    @property
    def options(self) -> StageOptions:
        """The stage's settings."""
        return self.app.options

    @property
    def handler(self) -> StageHandler:
        """Who processes the batches."""
        return self.app.handler

    @property
    def flows(self) -> dict[Partition, Flow]:
        """The open partitions of the current assignment."""
        return self._flows

    @property
    def owned(self) -> frozenset[Partition]:
        """The partitions of the current assignment, opened or not."""
        return self._owned

    @property
    def thread(self) -> BusThread:
        """The thread with the bus client."""
        return self._thread

    def _new_consumer_thread(self) -> BusThread:
        return BusThread(self, loop=self.loop, beacon=self.beacon)

    def fail(self, error: BaseException) -> None:
        """End the stage with `error`; nothing more is committed."""
        self.halted = True
        self.app.fail(error)

    # --- hand out -------------------------------------------------------------------------

    def on_fetched(self, fetched: Fetched) -> None:
        """Take in what the pump read. Runs in the event loop."""
        for flow, piece in fetched:
            flow.offer(piece)
        self._wake.set()

    @Service.task
    async def _hand_out(self) -> None:
        while not self.should_stop:
            await self._wake.wait()
            self._wake.clear()
            now = time.monotonic()
            generation = self.app.consumer_generation_id
            for delivered in rounds(self._turns, now):
                await self.callback(BatchMessage(delivered, generation))
            self._after_round(now)

    def _after_round(self, now: float) -> None:
        later = [flow.not_before for flow in self._turns if flow.not_before > now]
        if later:
            self.loop.call_later(min(later) - now, self._wake.set)
        for flow in self._turns:
            if flow.bus_paused and not flow.full and not flow.paused:
                self._thread.tell(self._thread.pump.resume, flow)

    def pause(self, partition: Partition) -> None:
        """Hand out and fetch nothing of a partition; others go on."""
        flow = self._flow(partition)
        if flow is not None:
            flow.paused = True
            self._thread.tell(self._thread.pump.pause, flow)

    def resume(self, partition: Partition) -> None:
        """Go on with a paused partition."""
        flow = self._flow(partition)
        if flow is not None:
            flow.paused = False
            self._thread.tell(self._thread.pump.resume, flow)
            self._wake.set()

    def _flow(self, partition: Partition) -> Flow | None:
        return self._flows.get(partition)

    # --- commit ---------------------------------------------------------------------------

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit every finished prefix; called by Faust's commit timer."""
        return await self._commit_finished()

    async def _commit_finished(self, within_s: float | None = None) -> bool:
        async with self._committing:
            due = {
                partition: offset
                for partition, flow in self._flows.items()
                if not flow.closed and (offset := flow.uncommitted()) is not None
            }
            if not due or self.halted:
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
        flows = {partition: self._flows.get(partition) for partition in offsets}
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

    async def log_ranges(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
        """First offset and end offset of partitions."""
        return await self._thread.ask(
            self._thread.log_ranges(partitions), tried="reading the range of a log"
        )

    # --- rebalance ------------------------------------------------------------------------

    def start_at(self, partition: Partition, offset: int) -> None:
        """Begin at `offset` rather than at the committed one, at the opening now under way."""
        self._starts[partition] = offset

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish or drop open work, commit what is finished, give the partitions up."""
        await self.give_up()

    async def give_up(self) -> None:
        """As above, bounded: `shutdown_s` for the work, then 3 s for the commit."""
        async with self._giving_up:  # a stop may come while a revocation is under way
            await self._give_up()

    async def _give_up(self) -> None:
        partitions, self._owned = self._owned, frozenset()
        self.settled = False
        self._turns.clear()
        for flow in self._flows.values():
            flow.closing = True
        if self._opening is not None:
            self._opening.cancel()
            with suppress(asyncio.CancelledError):
                await self._opening
            self._opening = None
        if partitions:
            await self._bounded(self._finish(partitions))
            await self._commit_finished(within_s=_LAST_COMMIT_S)
        for flow in self._flows.values():
            flow.close()
        self._flows.clear()
        self._starts.clear()

    async def _finish(self, partitions: frozenset[Partition]) -> None:
        try:
            await self.handler.revoked(partitions)
        except FatalError as error:
            self.fail(error)
        except Exception as error:  # noqa: BLE001  # handler boundary: the group cannot wait for it
            log.warning(
                "revocation: the stage raised %s; its open work is dropped", type(error).__name__
            )
        await self.bodies.finished()

    async def _bounded(self, work: Awaitable[None]) -> None:
        # Not wait_for: it would wait for ever for work that swallows its cancellation.
        task = asyncio.ensure_future(work)
        await asyncio.wait({task}, timeout=self.options.shutdown_s)
        if not task.done():
            task.cancel()
            log.warning(
                "revocation: work is still open after %.1f s (%d bodies cut off); "
                "it is dropped, and done again by the next owner",
                self.options.shutdown_s,
                self.bodies.cut_off(),
            )
            await asyncio.wait({task}, timeout=_CUT_OFF_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.bodies.finished(), _CUT_OFF_S)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Take the new set over; its batches flow once the handler is ready for them.

        Returns at once: the group must not wait while a stage loads its state.
        """
        if self.should_stop or self.halted:
            return
        await self.app.topics.on_partitions_assigned(assigned)
        self._owned = frozenset((tp.topic, tp.partition) for tp in assigned)
        self._opening = asyncio.create_task(self._open(self._owned))
        self.app.rebalancing = False

    async def _open(self, partitions: frozenset[Partition]) -> None:
        while partitions and not self.should_stop:
            try:
                await self.handler.assigned(partitions)
                flows = await self._locate(partitions)
                break
            except RetryableError as error:
                log.warning("assignment: %s", error)
                await asyncio.sleep(error.retry_after_s)
            except Exception as error:  # noqa: BLE001  # task boundary: ends the stage with it
                self.fail(error)
                return
        else:
            self.settled = not partitions
            return
        self._flows = {flow.partition: flow for flow in flows}
        self._turns = deque(flows)
        for flow in flows:
            self._thread.tell(self._thread.pump.open, flow)
        self.settled = True
        log.info("%s reads %d partitions", self.options.group, len(flows))

    async def _locate(self, partitions: frozenset[Partition]) -> list[Flow]:
        ranges = await self.log_ranges(partitions)
        order = sorted(partitions)
        flows = []
        offsets = await asyncio.gather(*(self.committed(partition) for partition in order))
        for partition, committed in zip(order, offsets, strict=True):
            begin, end = ranges[partition]
            position = self._starts.get(partition, committed)
            if position is None:
                position = end if self.options.start == "latest" else begin
            flow = self._new_flow(partition, self._in_log(partition, position, begin), committed)
            flow.end = end
            flows.append(flow)
        return flows

    def _in_log(self, partition: Partition, position: int, begin: int) -> int:
        if position >= begin:
            return position
        self.expired[partition] += begin - position
        log.warning(
            "%s[%d]: the log starts at %d, expected %d or below; %d offsets have expired unread",
            *partition,
            begin,
            position,
            begin - position,
        )
        return begin

    def _new_flow(self, partition: Partition, position: int, committed: int | None) -> Flow:
        return Flow(
            partition,
            position,
            committed=committed,
            batch_rows=self.options.batch_rows,
            max_in_flight=self.options.max_in_flight,
            held_bytes=2 * self.options.fetch_bytes,
            changed=self._wake.set,
        )

    def on_out_of_range(self, lost: list[Partition]) -> None:
        """Positions that left the log while it was read. Runs in the event loop."""
        self.add_future(self._relocate(lost))

    async def _relocate(self, lost: list[Partition]) -> None:
        try:
            ranges = await self.log_ranges(lost)
        except BusUnavailableError:
            await asyncio.sleep(self.options.heartbeat_s)
            return await self._relocate(lost)
        for partition in lost:
            flow = self._flows.get(partition)
            begin, end = ranges[partition]
            if flow is None:
                continue
            if flow.read > end:
                self.fail(
                    StateError(
                        f"group {self.options.group!r} is at {partition[0]}[{partition[1]}]@"
                        f"{flow.read}, the log ends at {end}; it is another log: reset the group's "
                        f"offsets or name a new group"
                    )
                )
                return None
            flow.read = self._in_log(partition, flow.read, begin)
            self._thread.tell(self._thread.pump.open, flow)
        return None

    # --- Faust's own bookkeeping that batches do not need -----------------------------------

    async def verify_all_partitions_active(self) -> None:
        """Nothing: the stage's watchdog reads the transport's properties instead."""

    async def on_stop(self) -> None:
        """Nothing: `StageApp.on_stop` gave everything up before the agents stopped."""
