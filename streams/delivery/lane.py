"""One partition's lane: its batches one after another, each made durable before it is done."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

from headrace.schemas.batch import RecordBatch
from headrace.schemas.errors import HeadraceError, OwnershipLostError, RetryableError
from headrace.schemas.protocols import Effects, OnlineRows, Output, WriteOutcome
from headrace.streams.delivery.isolate import effects_of
from headrace.streams.delivery.outlet import outlet_of
from headrace.streams.delivery.ownership import Owned, Takeover
from headrace.streams.delivery.ports import Delivered, StagePorts
from headrace.streams.delivery.retry import retried
from headrace.streams.drill.crash_points import CrashPoint, armed
from headrace.streams.observe.traces import in_span
from headrace.streams.together import all_of

T = TypeVar("T")
log = logging.getLogger("headrace.delivery")


@functools.cache
def crash_point() -> CrashPoint | None:
    """Where a drill wants this worker to end; None everywhere else.

    Asked by the first lane: this module may be imported before the worker is forked and told.
    """
    return armed(os.environ)


LEAVE_S = 2.0
"""How long a lane that ends looks after its checkpoint; the worker's own deadline is longer."""

CUT_OFF_S = 0.8
"""How long a lane that is cut off gets to let go; below the transport's own wait for it."""

OWNERSHIP_PAUSE_S = 0.2
"""Pause before a takeover that the group refused is tried again: a rebalance takes about this."""


class Lane:
    """Takes the partition over, then works through its batches in order.

    A batch's steps, each durable before the next begins: publish its outputs and await their
    acknowledgement, and write its online rows beside that; write state and position R by
    compare-and-set; fold the delta; tell the transport that it is done, which lets the group offset
    move on. A crash between any two of them is repaired by the next owner's takeover.

    Delivery: at least once; with a transactional outlet outputs and the group's offset are one
    transaction, so that readers of committed records see each batch exactly once.

    Args:
        stage: The stage this lane is part of.
        topic: Source topic.
        partition: Source partition.
        fail: Told of the error that must end the worker.
    """

    def __init__(
        self,
        stage: StagePorts,
        topic: str,
        partition: int,
        *,
        fail: Callable[[BaseException], None],
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.ready = False
        """The partition was taken over; its batches are being worked through."""
        self.owned: Owned | None = None
        """What we own between two batches; None while anything about it is in doubt."""
        self.given = 0
        """Rows it has published since it began."""
        self._stage = stage
        self._outlet = outlet_of(stage, topic, partition)
        self._takeover = Takeover(stage, self._outlet)
        self._fail = fail
        self._key = stage.key(topic, partition)
        self._waiting: deque[Delivered] = deque()
        self._wake = asyncio.Event()
        self._stopping = False
        self._finished = 0
        self._expired = -1
        self._position = 0
        self._begun_ms = 0.0
        self._steps: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def step(self) -> tuple[str, float] | None:
        """The oldest step in hand and its begin, monotonic seconds; None between two batches."""
        return next(iter(self._steps.items()), None)

    @property
    def position(self) -> int:
        """Next offset to process; 0 before the first takeover is done."""
        return self._position

    @contextmanager
    def _in_hand(self, step: str) -> Iterator[None]:
        """A step as the watchdog sees it: one that is repeated keeps its beginning."""
        if (point := crash_point()) is not None:
            point.enter(self._stage.agent.stage, step)
        self._steps[step] = time.monotonic()
        try:
            yield
        finally:
            self._steps.pop(step, None)

    def start(self, parked: Owned | None) -> None:
        """Begin; `parked` is what we owned when the partition was last taken from us."""
        self._task = asyncio.create_task(self._run(parked), name=f"lane {self._key}")

    def offer(self, delivered: Delivered) -> None:
        """Queue a batch; the transport bounds how many are open."""
        self._waiting.append(delivered)
        self._wake.set()

    async def stop(self) -> Owned | None:
        """Finish the batch in hand, drop those that wait; what we own then, if that is certain.

        Cancelling this call cancels the batch in hand, which is then not acknowledged, and
        returns once nothing of it goes on.
        """
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            try:
                await asyncio.shield(self._task)
            except asyncio.CancelledError:
                self._task.cancel()
                await asyncio.wait({self._task}, timeout=CUT_OFF_S)
                raise
        return self.owned

    async def _run(self, parked: Owned | None) -> None:
        """A task boundary: whatever ends a lane other than `stop` ends the worker."""
        try:
            if parked is not None:
                await self._regain(parked)
            await self._take_over()
            self.ready = True
            while (delivered := await self._next()) is not None:
                if await self._finish(delivered.records):
                    self._finished = delivered.records.next
                    delivered.done()
            await self._leave()
        except asyncio.CancelledError:
            raise
        # The lane is a task of its own: nobody else would see its error.
        except Exception as error:
            if not isinstance(error, HeadraceError):
                log.exception("%s ended", self._key)
            self._fail(error)
        finally:
            await self._outlet.close()

    async def _regain(self, parked: Owned) -> None:
        """Go on with what we owned before, where it is certain that nothing has changed."""
        ours, place = self._takeover.still_ours, (self.topic, self.partition)
        with suppress(OwnershipLostError):  # the group went on while we looked: take it over anew
            if await self._retried("held", lambda: ours(*place, parked)):
                self.owned, self._position = parked, parked.position

    async def _next(self) -> Delivered | None:
        """The next batch; None once `stop` was called, whatever still waits."""
        while not self._waiting and not self._stopping:
            self._wake.clear()
            await self._wake.wait()
        return None if self._stopping else self._waiting.popleft()

    async def _finish(self, records: RecordBatch) -> bool:
        """Whether every record at or above P became durable; false only when stopped before.

        When ownership is lost nothing of the batch is certain any more; after a new takeover the
        part of it that did become durable lies below P and is dropped.
        """
        while self.owned is not None:
            try:
                await self._process(self.owned, records)
            except OwnershipLostError as error:
                log.warning("%s is taken over again: %s", self._key, error)
                await self._take_over()
            else:
                return True
        return False

    async def _take_over(self) -> None:
        """Own the partition, unless stopped before; a no-op while we own it."""
        while self.owned is None and not self._stopping:
            try:
                with self._in_hand("takeover"):
                    self.owned = await self._retried("takeover", self._take)
                self._position = self.owned.position
            except OwnershipLostError as error:
                # The group has moved on: a revocation is on its way and will stop this lane.
                log.info("%s is not ours yet: %s", self._key, error)
                await asyncio.sleep(OWNERSHIP_PAUSE_S)

    async def _take(self) -> Owned:
        return await self._takeover.take(self.topic, self.partition, finished=self._finished)

    async def _leave(self) -> None:
        """See that the checkpoint is where we leave off.

        A store that was rolled back while no batch came would leave the next owner, where the
        group's offset is gone too, with a position long past. What is wrong with the store must not
        hold up who leaves for more than a moment.
        """
        if (owned := self.owned) is None:
            return
        try:
            async with asyncio.timeout(LEAVE_S):
                found = await self._retried("held", lambda: self._stage.store.held(self._key))
                if found[0] <= owned.claim and found != (owned.claim, owned.stored):
                    log.warning("%s is written again: the store was rolled back", self._key)
                    self.owned = None
                    await self._retried("rewrite", lambda: self._claimed_anew(owned))
                    self.owned = owned
        except (TimeoutError, RetryableError) as error:
            why = str(error) or f"no answer within {LEAVE_S:g} s"
            log.warning("%s is left as the store has it: %s", self._key, why)

    async def _claimed_anew(self, owned: Owned) -> None:
        """The whole state under a claim that is ours, if the group still has us.

        Raises:
            OwnershipLostError: it has gone on without us, or somebody claimed it meanwhile.
        """
        owned.claim = await self._stage.store.claim(self._key)
        await self._outlet.fence()
        offset = await self._stage.group.committed(self.topic, self.partition)
        if offset is not None:
            await self._stage.group.commit(self.topic, self.partition, offset)
        meta = owned.meta(self._stage.agent.layout, self._stage.partitions)
        outcome = await self._stage.store.rewrite(
            self._key, claim=owned.claim, meta=meta, fields=owned.state.dump()
        )
        if outcome is not WriteOutcome.WRITTEN:
            raise OwnershipLostError(f"checkpoint {self._key!r} was claimed by another worker")
        owned.stored = owned.position

    async def _process(self, owned: Owned, records: RecordBatch) -> None:
        """Make every record at or above P durable."""
        records = records.since(owned.position)
        if not len(records):
            return
        gap = owned.position if self._is_gap(records.first, owned.position) else None
        self.owned = None
        parts = effects_of(
            self._stage.agent,
            owned.state,
            records,
            rebuilt=owned.rebuilt,
            on_retry=self._stage.counters.retry,
        )
        while (made := await self._next_part(parts)) is not None:
            with in_span(self._stage.agent.stage, made[1].timed):
                await self._make_durable(owned, *made, gap)
            gap = None
        self.owned = owned

    async def _next_part(
        self, parts: AsyncIterator[tuple[RecordBatch, Effects]]
    ) -> tuple[RecordBatch, Effects] | None:
        if self._stage.observer is not None:
            self._begun_ms = self._stage.observer.now_ms()
        with self._in_hand("process"):
            return await anext(parts, None)

    def _is_gap(self, first: int, position: int) -> bool:
        """Whether offsets were left out, and the log's start may have passed them.

        Behind every transaction is a marker: to ask the bus about each would cost every batch a
        round trip.
        """
        if first <= position:
            return False
        before, self._expired = (
            self._expired,
            self._stage.source.expired(self.topic, self.partition),
        )
        return self._expired != before

    async def _count_expired(self, position: int) -> None:
        """A gap below the log's start is loss by retention; any other is a marker or compaction."""
        begin, _ = await self._retried(
            "range of the log", lambda: self._stage.source.log_range(self.topic, self.partition)
        )
        if begin > position:
            self._stage.counters.expired += begin - position
            log.error(
                "%d events of %s[%d] expired before they were read; raise the topic's retention",
                begin - position, self.topic, self.partition,
            )  # fmt: skip

    async def _make_durable(
        self, owned: Owned, part: RecordBatch, effects: Effects, gap: int | None
    ) -> None:
        began = time.monotonic()
        observer, begun_ms = self._stage.observer, self._begun_ms
        steps = [] if gap is None else [self._count_expired(gap)]
        if effects.outputs or self._outlet.transactional:
            steps.append(self._publish(effects.outputs, part.next))
        if effects.online:
            steps.append(self._write_online(owned, effects.online))
        await all_of(*steps)
        readable_ms = observer.now_ms() if observer is not None else 0.0
        with self._in_hand("checkpoint"):
            await self._checkpoint(owned, part, effects)
        self._count(part, effects, time.monotonic() - began)
        if observer is not None:
            observer.observe(part, effects, begun_ms=begun_ms, readable_ms=readable_ms)

    async def _publish(self, outputs: Sequence[Output], upto: int) -> None:
        with self._in_hand("publish"):
            await self._retried("publish", lambda: self._outlet.publish(outputs, upto))

    async def _write_online(self, owned: Owned, views: Sequence[OnlineRows]) -> None:
        with self._in_hand("online rows"):
            await all_of(*(self._write_rows(owned, rows) for rows in views))

    async def _write_rows(self, owned: Owned, rows: OnlineRows) -> None:
        ttl_s = self._stage.ttl_s[rows.view]
        await self._retried(
            "online rows",
            lambda: self._stage.store.write_rows(rows, epoch=owned.epoch, ttl_s=ttl_s),
        )

    async def _checkpoint(self, owned: Owned, part: RecordBatch, effects: Effects) -> None:
        """Write delta and R, then fold; a store that was rolled back is written whole."""
        owned.position = part.next
        owned.last = part.last_record()
        meta = owned.meta(self._stage.agent.layout, self._stage.partitions)
        changed, dropped = list(effects.delta.changed()), list(effects.delta.dropped())
        outcome = await self._retried(
            "checkpoint",
            lambda: self._stage.store.write(
                self._key,
                claim=owned.claim,
                base=owned.stored,
                meta=meta,
                changed=changed,
                dropped=dropped,
            ),
        )
        effects.delta.fold()
        if outcome is WriteOutcome.ROLLED_BACK:
            self._stage.counters.rewrites += 1
            outcome = await self._retried(
                "rewrite",
                lambda: self._stage.store.rewrite(
                    self._key, claim=owned.claim, meta=meta, fields=owned.state.dump()
                ),
            )
            # What the store forgot, it forgot of the online rows as well.
            if outcome is WriteOutcome.WRITTEN and (online := owned.state.online()):
                await self._write_online(owned, online)
        if outcome is WriteOutcome.NOT_OWNER:
            raise OwnershipLostError(f"checkpoint {self._key!r} was claimed by another worker")
        owned.stored = self._position = owned.position

    def _count(self, part: RecordBatch, effects: Effects, seconds: float) -> None:
        counts, counters = effects.counts, self._stage.counters
        self.given += counts.get("out", 0)
        counters.events.update(counts)
        counters.batches += 1
        counters.busy_s += seconds
        counters.raw_bytes += sum(map(len, filter(None, part.values)))
        for output in effects.outputs:
            if output.topic in self._stage.central:
                counters.upstream_bytes += sum(map(len, output.values))
        self._stage.share.add(events=counts.get("in", 0), dead=counts.get("dead", 0))

    async def _retried(self, what: str, step: Callable[[], Awaitable[T]]) -> T:
        return await retried(
            step, what=f"{what} of {self._key}", on_retry=self._stage.counters.retry
        )
