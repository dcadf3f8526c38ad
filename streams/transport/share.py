"""This worker's share of the group: taken when the handler is ready, given up in good order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from headrace.schemas.errors import BusUnavailableError, FatalError, RetryableError
from headrace.streams.transport.flow import Flow
from headrace.streams.transport.options import Partition, log

if TYPE_CHECKING:
    from headrace.streams.transport.consumer import StageConsumer
    from headrace.streams.transport.stage import StageHandler

T = TypeVar("T")

# What cut-off bodies get to end, and what the commit of a revocation may take.
_CUT_OFF_S = 1.0
_LAST_COMMIT_S = 2.0


class Share:
    """The partitions of one assignment after the other.

    Args:
        consumer: Reads logs and offsets, hands out, commits.
        handler: Is told of every share before its first batch and at its end.
        changed: Called when a partition has something to hand out again.

    Attributes:
        owned: Partitions of the current assignment, open or not.
        settled: All of them are open; true of none, once the group has said so.
        paused: Partitions that the handler holds.
        expired: Offsets that the log dropped before they were read, by partition.
    """

    def __init__(
        self, consumer: StageConsumer, handler: StageHandler, changed: Callable[[], None]
    ) -> None:
        self.owned: frozenset[Partition] = frozenset()
        self.settled = False
        self.paused: set[Partition] = set()
        self.expired: Counter[Partition] = Counter()
        self._consumer = consumer
        self._handler = handler
        self._changed = changed
        self._options = consumer.options
        self._starts: dict[Partition, int] = {}
        self._opening: asyncio.Task[None] | None = None
        self._giving_up = asyncio.Lock()

    def start_at(self, partition: Partition, offset: int) -> None:
        """Begin at `offset` rather than at the committed one, at the opening now under way."""
        self._starts[partition] = offset

    # --- taking ---------------------------------------------------------------------------

    def take(self, partitions: frozenset[Partition]) -> None:
        """Begin with a new assignment, in the background."""
        self.owned = partitions
        self._opening = asyncio.create_task(self._open(partitions))

    async def _open(self, partitions: frozenset[Partition]) -> None:
        try:
            await self._retried(lambda: self._handler.assigned(partitions))
            if partitions:
                self._consumer.set_flows(await self._retried(lambda: self._locate(partitions)))
            self.settled = True
            log.info("%s reads %d partitions", self._options.group, len(partitions))
        except Exception as error:  # noqa: BLE001  # task boundary: ends the stage with it
            self._consumer.fail(error)

    async def _retried(self, step: Callable[[], Awaitable[T]]) -> T:
        told = ""
        while True:
            try:
                return await step()
            except RetryableError as error:
                if str(error) != told:
                    told = str(error)
                    log.warning("assignment: %s", error)
                await asyncio.sleep(error.retry_after_s)

    async def _locate(self, partitions: frozenset[Partition]) -> list[Flow]:
        order = sorted(partitions)
        ranges, offsets = await asyncio.gather(
            self._consumer.log_ranges(order),
            asyncio.gather(*map(self._consumer.committed, order)),
        )
        return [
            self._new_flow(partition, committed, ranges[partition])
            for partition, committed in zip(order, offsets, strict=True)
        ]

    def _new_flow(
        self, partition: Partition, committed: int | None, limits: tuple[int, int]
    ) -> Flow:
        begin, end = limits
        latest = self._options.start == "latest"
        position = self._starts.get(partition, committed)
        if position is None:
            position = end if latest else begin
            # Only a start at the end has to be kept: after a crash it would be a later one.
            committed = None if latest else position
        elif committed is None:
            committed = position
        flow = Flow(
            partition,
            self._in_log(partition, position, begin),
            committed=committed,
            batch_rows=self._options.batch_rows,
            max_in_flight=self._options.max_in_flight,
            held_bytes=2 * self._options.fetch_bytes,
            changed=self._changed,
        )
        flow.end = end
        flow.paused = partition in self.paused
        return flow

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

    async def relocate(self, lost: list[Partition]) -> None:
        """Go on at the log's start where it has moved past our position.

        A position beyond the log's end is that of another log: the stage ends, and the takeover of
        its next start looks at log and state.
        """
        ranges = await self._retried(lambda: self._consumer.log_ranges(lost))
        for partition in lost:
            flow = self._consumer.flows.get(partition)
            begin, end = ranges[partition]
            if flow is None:
                continue
            if flow.read > end:
                return self._consumer.fail(self._another_log(partition, flow.read, end))
            flow.read = self._in_log(partition, flow.read, begin)
            self._consumer.bus.pump.open(flow)
        return None

    def _another_log(self, partition: Partition, position: int, end: int) -> BusUnavailableError:
        topic, number = partition
        return BusUnavailableError(
            f"group {self._options.group!r} is at {topic}[{number}]@{position}, the log ends at "
            f"{end}: it is another log, and taken over anew"
        )

    # --- giving up ------------------------------------------------------------------------

    async def give_up(self) -> None:
        """Finish or drop open work, commit what is finished, give the partitions up.

        Bounded: `shutdown_s` for the work, 2 s to let go of it, 2 s for the commit.
        """
        async with self._giving_up:  # a stop may come while a revocation is under way
            partitions, self.owned, self.settled = self.owned, frozenset(), False
            self._consumer.stop_turns()
            await self._end_opening()
            if partitions:
                await self._bounded(self._finish(partitions))
                await self._consumer.commit_finished(within_s=_LAST_COMMIT_S)
            self._consumer.close_flows()
            self._starts.clear()
            self.paused.clear()

    async def _end_opening(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            with suppress(asyncio.CancelledError):
                await self._opening
            self._opening = None

    async def _finish(self, partitions: frozenset[Partition]) -> None:
        try:
            await self._handler.revoked(partitions)
        except FatalError as error:
            self._consumer.fail(error)
        except Exception as error:  # noqa: BLE001  # handler boundary: the group cannot wait for it
            log.warning(
                "revocation: the stage raised %s; its open work is dropped", type(error).__name__
            )
        await self._consumer.bodies.finished()

    async def _bounded(self, work: Awaitable[None]) -> None:
        # Not wait_for: it would wait for ever for work that swallows its cancellation.
        task = asyncio.ensure_future(work)
        await asyncio.wait({task}, timeout=self._options.shutdown_s)
        if not task.done():
            task.cancel()
            log.warning(
                "revocation: work is still open after %.1f s (%d bodies cut off); "
                "it is dropped, and done again by the next owner",
                self._options.shutdown_s,
                self._consumer.bodies.cut_off(),
            )
            await asyncio.wait({task}, timeout=_CUT_OFF_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(_CUT_OFF_S):
                    await self._consumer.bodies.finished()
