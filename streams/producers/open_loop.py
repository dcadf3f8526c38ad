"""Send a fleet's events at their intended times, whatever the bus does: open loop, bounded."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from headrace.schemas.errors import RetryableError
from headrace.streams.client.bus import BusWriter
from headrace.streams.client.latency import Latency
from headrace.streams.producers.chance import F64
from headrace.streams.producers.fleet import BLOCK_MS, Block

MAX_WAITING = 100_000
"""Events made and not sent: more are not made before there is room. None is dropped."""
AHEAD_MS = 2 * BLOCK_MS
LINGER_S = 0.01
"""Between two requests to one partition."""
REQUEST_ROWS = 4_000


@dataclass(slots=True)
class Sent:
    """What a run sent.

    Attributes:
        events: Acknowledged by all replicas.
        value_bytes: Of them.
        resent: Handed to the bus again after an error; some of them may be there twice.
        lateness: The sender's own: from the intended time to the hand-over to the bus client.
        latest_ms: Most of it, milliseconds.
        most_waiting: Most events that were made and not acknowledged.
        by_second: Acknowledged in each second of the run.
    """

    events: int = 0
    value_bytes: int = 0
    resent: int = 0
    lateness: Latency = field(default_factory=Latency)
    latest_ms: float = 0.0
    most_waiting: int = 0
    by_second: Counter[int] = field(default_factory=Counter)


@dataclass(slots=True)
class _Part:
    """The events of one block and partition."""

    due_ms: F64
    keys: list[bytes]
    values: list[bytes]


class OpenLoop:
    """One lane per partition: its events in order, one request at a time.

    Args:
        writer: Writes to the topic; started.
        partitions: Of the topic.
        now: Wall clock, seconds since 1970.

    Delivery: at-least-once. A request whose answer was lost is repeated whole, so events can be
    there twice unless the bus has an idempotent producer; `Sent.resent` says how many.
    """

    def __init__(
        self,
        writer: BusWriter,
        partitions: int,
        *,
        now: Callable[[], float],
    ) -> None:
        self._writer, self._now = writer, now
        self._lanes: list[deque[_Part]] = [deque() for _ in range(partitions)]
        self._wake = [asyncio.Event() for _ in range(partitions)]
        self._waiting = 0
        self._room = asyncio.Event()
        self._begin_s = 0.0
        self.sent = Sent()

    @property
    def waiting(self) -> int:
        """Events made and not acknowledged."""
        return self._waiting

    async def run(
        self,
        blocks: Iterable[Block],
        begin_ms: int,
        stop: asyncio.Event,
        kept: Callable[[Block], None],
    ) -> None:
        """Send every block; return when all is acknowledged.

        Args:
            blocks: In the order of their times, each of `BLOCK_MS`.
            begin_ms: When the first begins, milliseconds since 1970.
            stop: Ends it after the block in hand, which is sent.
            kept: Told of every block that is sent.

        Raises:
            HeadraceError: what the bus raised, unless retryable.
        """
        self._begin_s = begin_ms / 1000
        lanes = [asyncio.create_task(self._lane(p)) for p in range(len(self._lanes))]
        feeding = asyncio.create_task(self._feed(blocks, begin_ms, stop, kept))
        try:
            done, _ = await asyncio.wait({feeding, *lanes}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (feeding, *lanes):
                task.cancel()
            await asyncio.gather(feeding, *lanes, return_exceptions=True)

    async def _feed(
        self,
        blocks: Iterable[Block],
        begin_ms: float,
        stop: asyncio.Event,
        kept: Callable[[Block], None],
    ) -> None:
        """Make blocks a little ahead of time, and hand them to the lanes."""
        for block in blocks:
            self._post(block)
            kept(block)
            begin_ms += BLOCK_MS
            while self._waiting > MAX_WAITING and not stop.is_set():
                self._room.clear()
                await self._room.wait()
            ahead_s = (begin_ms - AHEAD_MS) / 1000 - self._now()
            await asyncio.sleep(max(0.0, ahead_s))
            if stop.is_set():
                break
        while self._waiting:
            self._room.clear()
            await self._room.wait()

    def _post(self, block: Block) -> None:
        count = len(block.values)
        partitions, due_ms = block.partitions[:count], block.rows.send_ms[:count]
        keys, values = block.keys, block.values
        for partition, lane in enumerate(self._lanes):
            rows = np.flatnonzero(partitions == partition)
            if len(rows):
                places = rows.tolist()
                lane.append(
                    _Part(due_ms[rows], [keys[r] for r in places], [values[r] for r in places])
                )
                self._wake[partition].set()
        self._waiting += count
        self.sent.most_waiting = max(self.sent.most_waiting, self._waiting)

    async def _lane(self, partition: int) -> None:
        lane, wake = self._lanes[partition], self._wake[partition]
        while True:
            await wake.wait()
            if not lane:
                wake.clear()
                continue
            early_s = lane[0].due_ms[0] / 1000 - self._now()
            # What is overdue has waited for company long enough.
            if early_s > -LINGER_S:
                await asyncio.sleep(max(LINGER_S, early_s))
            keys, values = self._due(lane)
            if values:
                await self._write(partition, keys, values)
                self._waiting -= len(values)
                self.sent.events += len(values)
                self.sent.by_second[int(self._now() - self._begin_s)] += len(values)
                self.sent.value_bytes += sum(map(len, values))
                self._room.set()

    def _due(self, lane: deque[_Part]) -> tuple[list[bytes], list[bytes]]:
        """Take the events whose time has come."""
        now_ms = self._now() * 1000
        keys: list[bytes] = []
        values: list[bytes] = []
        while lane and len(values) < REQUEST_ROWS:
            part = lane[0]
            end = int(np.searchsorted(part.due_ms, now_ms, side="right"))
            if not end:
                break
            late_ms = now_ms - part.due_ms[:end]
            self.sent.lateness.record(late_ms)
            self.sent.latest_ms = max(self.sent.latest_ms, float(late_ms[0]))
            keys += part.keys[:end]
            values += part.values[:end]
            if end < len(part.keys):
                lane[0] = _Part(part.due_ms[end:], part.keys[end:], part.values[end:])
                break
            lane.popleft()
        return keys, values

    async def _write(self, partition: int, keys: list[bytes], values: list[bytes]) -> None:
        while True:
            try:
                await self._writer.write(partition, keys, values, [()] * len(values))
                return
            except RetryableError as error:
                self.sent.resent += len(values)
                await asyncio.sleep(error.retry_after_s)
