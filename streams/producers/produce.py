"""Drive a live source into a sink on time: open loop, bounded, nothing dropped in silence."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from headrace.schemas.errors import RetryableError

BUFFER_ROWS = 10_000


class Record(NamedTuple):
    """What a source gives: the record's key, None where it has none, and its value."""

    key: bytes | None
    value: bytes


class Source(Protocol):
    """Where telemetry comes from; it knows only the present.

    So a missed time is skipped, and the oldest record goes when the buffer is full; both are
    counted. What is stored and can wait is replayed instead (`replay`).
    """

    def take(self) -> list[Record] | None:
        """The records due now, possibly none; None when there will never be more."""


class Sink(Protocol):
    """Where records go."""

    async def send(self, key: bytes | None, value: bytes) -> object:
        """Accept one record; waits while there is no room.

        Raises:
            RetryableError: the same call may succeed later.
        """


@dataclass(slots=True)
class Produced:
    """What a run of `produce` did.

    Attributes:
        sent: Records the sink accepted.
        dropped: Records that found no room.
        skipped: Times at which the source was not read, being late.
        late_s: Longest delay of a reading against its intended time, seconds.
    """

    sent: int = 0
    dropped: int = 0
    skipped: int = 0
    late_s: float = 0.0


class _Buffer:
    """Records between the source, which keeps time, and the sink, which may be slow."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._records: deque[Record] = deque()
        self._changed = asyncio.Condition()
        self._closed = False

    async def put(self, records: list[Record]) -> int:
        """Append `records`; how many had to go to make room."""
        async with self._changed:
            self._records.extend(records)
            surplus = max(0, len(self._records) - self._rows)
            for _ in range(surplus):
                self._records.popleft()
            self._changed.notify_all()
        return surplus

    async def take(self) -> list[Record]:
        """Everything there is, waiting for something; empty only after `close`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._records or self._closed)
            taken = list(self._records)
            self._records.clear()
            self._changed.notify_all()
        return taken

    async def close(self) -> None:
        async with self._changed:
            self._closed = True
            self._changed.notify_all()


async def produce(
    source: Source,
    sink: Sink,
    *,
    rate_hz: float,
    seconds: float | None = None,
    buffer_rows: int = BUFFER_ROWS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> Produced:
    """Take from `source` on time and send to `sink` until the source ends.

    Open loop: the k-th reading is intended at start + k / rate, whatever the sink does, so a
    slow sink neither stretches the schedule nor hides its own delay.

    Args:
        source: Where records come from.
        sink: Where they go. Order is kept.
        rate_hz: Readings per second.
        seconds: Ends after this long, having sent what was read; None: never.
        buffer_rows: Records that may wait for the sink.
        clock: Monotonic seconds.
        sleep: Waits.

    Raises:
        HeadraceError: what the sink raised, unless retryable; those are repeated.

    Delivery: each record is sent in order until the sink accepts it; at-least-once if the sink
    accepted a record and raised all the same.
    """
    done, buffer = Produced(), _Buffer(buffer_rows)
    sender = asyncio.create_task(_drain(buffer, sink, done, sleep))
    reader = asyncio.create_task(_read(source, buffer, done, rate_hz, seconds, clock, sleep))
    try:
        await asyncio.wait((sender, reader), return_when=asyncio.FIRST_EXCEPTION)
        if reader.done():
            reader.result()
        sender.result()
    finally:
        sender.cancel()
        reader.cancel()
        await asyncio.gather(sender, reader, return_exceptions=True)
    return done


async def _read(
    source: Source,
    buffer: _Buffer,
    done: Produced,
    rate_hz: float,
    seconds: float | None,
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[object]],
) -> None:
    start_s, tick = clock(), 0
    end_s = start_s + seconds if seconds is not None else float("inf")
    while True:
        due_s = start_s + tick / rate_hz
        if due_s >= end_s:
            break
        await sleep(max(0.0, due_s - clock()))
        late_s = clock() - due_s
        if late_s >= 1 / rate_hz:
            missed = int(late_s * rate_hz)
            done.skipped, tick = done.skipped + missed, tick + missed
        done.late_s = max(done.late_s, late_s)
        records = source.take()
        if records is None:
            break
        done.dropped += await buffer.put(records)
        tick += 1
    await buffer.close()


async def _drain(
    buffer: _Buffer, sink: Sink, done: Produced, sleep: Callable[[float], Awaitable[object]]
) -> None:
    while records := await buffer.take():
        for key, value in records:
            await _send(sink, key, value, sleep)
            done.sent += 1


async def _send(
    sink: Sink, key: bytes | None, value: bytes, sleep: Callable[[float], Awaitable[object]]
) -> None:
    while True:
        try:
            await sink.send(key, value)
            return
        except RetryableError as error:
            await sleep(error.retry_after_s)
