"""Records on their way to the bus: one lane per partition, in order, bounded."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field

from headrace.schemas.batch import Headers
from headrace.schemas.errors import (
    BusUnavailableError,
    FatalError,
    HeadraceError,
    RetryableError,
    Source,
)
from headrace.streams.client.bus import BusWriter

ROW_OVERHEAD_BYTES = 32


class Receipt:
    """What became of the records of one call, to await or to leave.

    Awaiting it gives the coordinates of each record once all replicas have them, or raises. A
    failure that nobody awaits is raised by the next `flush`.
    """

    def __init__(self, rows: int) -> None:
        self._sources: list[Source | None] = [None] * rows
        self._missing = rows
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaited = False
        if not rows:
            self._done.set_result(None)

    def __await__(self) -> Generator[object, None, list[Source]]:
        self._awaited = True
        yield from asyncio.shield(self._done).__await__()
        return [source for source in self._sources if source is not None]

    @property
    def failed(self) -> BaseException | None:
        """The error, if there is one and nobody awaited it."""
        settled = self._done.done() and not self._done.cancelled()
        return self._done.exception() if settled and not self._awaited else None

    def settle(self, row: int, source: Source) -> None:
        """One record is on the bus."""
        self._sources[row] = source
        self._missing -= 1
        if not self._missing and not self._done.done():
            self._done.set_result(None)

    def fail(self, error: HeadraceError) -> None:
        """One record is not; the others may be."""
        if not self._done.done():
            self._done.set_exception(error)
            self._done.exception()  # seen: `flush` raises it where nobody awaits


@dataclass(slots=True)
class Posted:
    """One record in a lane."""

    key: bytes | None
    value: bytes
    headers: Headers
    receipt: Receipt
    row: int


@dataclass(slots=True)
class Lane:
    """Records of one partition, oldest first."""

    waiting: deque[Posted] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Outbox:
    """Bounded buffer in front of a `BusWriter`.

    One request is in flight per partition, so a retry cannot change the order of its records.

    Args:
        writer: Where records go.
        topic: Its topic.
        max_rows: Records that may wait; then `post` does.
        batch_bytes: Most bytes of one request.
        linger_s: Time the first record of a batch waits for company, seconds.
        give_up_s: Records not acknowledged this long after their first try have failed, seconds.

    Delivery: at-least-once. A try whose answer was lost is repeated, so a record can be there
    twice, unless the bus has an idempotent producer; the pipeline drops such repeats by event id.
    """

    def __init__(
        self,
        writer: BusWriter,
        topic: str,
        *,
        max_rows: int,
        batch_bytes: int,
        linger_s: float,
        give_up_s: float,
    ) -> None:
        self._writer, self._topic = writer, topic
        self._max_rows, self._batch_bytes = max_rows, batch_bytes
        self._linger_s, self._give_up_s = linger_s, give_up_s
        self._lanes: dict[int, Lane] = {}
        self._rows = 0
        self._changed = asyncio.Condition()
        self._unseen: HeadraceError | None = None
        self._failed_rows = 0
        self._flushing = 0

    @property
    def rows(self) -> int:
        """Records accepted and not settled."""
        return self._rows

    async def post(self, placed: list[tuple[int, Posted]]) -> None:
        """Accept all of the records, or wait until there is room for all.

        More than `max_rows` at once are accepted when nothing else waits. Cancelling it while it
        waits accepts none.
        """
        rows = len(placed)
        async with self._changed:
            await self._changed.wait_for(
                lambda: not self._rows or self._rows + rows <= self._max_rows
            )
            self._rows += rows
        for partition, posted in placed:
            lane = self._lanes.get(partition)
            if lane is None:
                lane = self._lanes[partition] = Lane()
                lane.task = asyncio.create_task(self._run(partition, lane))
            lane.waiting.append(posted)
            lane.wake.set()

    async def flush(self) -> None:
        """Wait until nothing waits.

        Raises:
            HeadraceError: records failed since the last flush and nobody awaited their receipts.
        """
        self._flushing += 1
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: not self._rows)
        finally:
            self._flushing -= 1
        error, self._unseen = self._unseen, None
        rows, self._failed_rows = self._failed_rows, 0
        if error is not None:
            root = BusUnavailableError if isinstance(error, RetryableError) else FatalError
            raise root(f"{rows} records did not reach {self._topic!r}: {error}") from error

    async def close(self) -> None:
        """Stop the lanes; what still waits has failed."""
        tasks = [lane.task for lane in self._lanes.values() if lane.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for lane in self._lanes.values():
            while lane.waiting:
                lane.waiting.popleft().receipt.fail(_ended(self._topic))
        self._lanes.clear()

    async def _run(self, partition: int, lane: Lane) -> None:
        while True:
            await lane.wake.wait()
            if self._linger_s and not self._flushing and len(lane.waiting) < self._max_rows // 2:
                await asyncio.sleep(self._linger_s)
            batch = self._cut(lane)
            try:
                await self._send(partition, batch)
            except asyncio.CancelledError:
                self._fail(batch, _ended(self._topic))
                raise
            async with self._changed:
                self._rows -= len(batch)
                self._changed.notify_all()

    def _cut(self, lane: Lane) -> list[Posted]:
        """The oldest records, as many as one request may hold."""
        batch: list[Posted] = []
        size = 0
        while lane.waiting:
            first = lane.waiting[0]
            size += len(first.value) + len(first.key or b"") + ROW_OVERHEAD_BYTES
            size += sum(len(name) + len(value or b"") for name, value in first.headers)
            if batch and size > self._batch_bytes:
                return batch
            batch.append(lane.waiting.popleft())
        lane.wake.clear()
        return batch

    async def _send(self, partition: int, batch: list[Posted]) -> None:
        """Write a batch until it is acknowledged or has failed; every receipt is told."""
        give_up_at = time.monotonic() + self._give_up_s
        keys = [p.key for p in batch]
        values = [p.value for p in batch]
        headers = [p.headers for p in batch]
        try:
            offsets = await self._write(partition, keys, values, headers, give_up_at)
        except HeadraceError as error:
            self._fail(batch, error)
            return
        # A lane must outlive anything a bus client raises: its records fail, the next ones go.
        except Exception as error:  # noqa: BLE001
            self._fail(batch, FatalError(f"sending failed unexpectedly: {type(error).__name__}"))
            return
        for posted, offset in zip(batch, offsets, strict=True):
            posted.receipt.settle(posted.row, Source(self._topic, partition, offset))

    async def _write(
        self,
        partition: int,
        keys: list[bytes | None],
        values: list[bytes],
        headers: list[Headers],
        give_up_at: float,
    ) -> list[int]:
        while True:
            left_s = give_up_at - time.monotonic()
            try:
                async with asyncio.timeout(max(0.0, left_s)):
                    return await self._writer.write(partition, keys, values, headers)
            except TimeoutError as error:
                raise BusUnavailableError(
                    f"the bus did not acknowledge within {self._give_up_s:g} s; "
                    f"whether the records are there is not known"
                ) from error
            except RetryableError as error:
                if left_s <= error.retry_after_s:
                    raise
                await asyncio.sleep(error.retry_after_s)

    def _fail(self, batch: list[Posted], error: HeadraceError) -> None:
        for posted in batch:
            posted.receipt.fail(error)
        unseen = [posted for posted in batch if posted.receipt.failed is not None]
        if unseen:
            self._unseen = error
            self._failed_rows += len(unseen)


def _ended(topic: str) -> BusUnavailableError:
    return BusUnavailableError(
        f"sending to {topic!r} was closed before the bus acknowledged; send the records again"
    )
