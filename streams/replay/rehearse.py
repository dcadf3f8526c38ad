"""The past of a topic written into another one, at its pace or a multiple of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.schemas.batch import F64
from headrace.schemas.errors import SettingsError
from headrace.streams.client.kafka_bus import KafkaWriter
from headrace.streams.replay.forms import RAW
from headrace.streams.replay.frames import Replayed
from headrace.streams.together import all_of

CHUNK_ROWS = 500
LONGEST_WAIT_S = 0.2


@dataclass(slots=True)
class Rehearsed:
    """What a rehearsal did.

    Attributes:
        total: Offsets to read.
        sent: Records acknowledged by all replicas.
        late_s: Longest delay of a record against its schedule, seconds.
    """

    total: int = 0
    sent: int = 0
    late_s: float = 0.0


class Rehearsal:
    """Writes the records of a replay into a topic, each into the partition it came from.

    Keys, values and headers are as they were read. Distances in time are kept over all partitions,
    divided by `speed`; what is older than what went before is sent with it.

    Args:
        replayed: Opened with `raw`.
        writer: Of the target, started.
        partitions: Of the target.
        speed: Times as fast as it happened; None as fast as it goes.
        by: Whose time is kept: ``event``, or ``broker``.
        clock: Seconds, monotonic.
        sleep: Waits.

    Raises:
        SettingsError: the target has fewer partitions than the source. Fatal.

    Delivery: at least once, in the order of each partition's log; not resumed.
    """

    def __init__(
        self,
        replayed: Replayed,
        writer: KafkaWriter,
        partitions: int,
        *,
        speed: float | None,
        by: str,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        if any(span.partition >= partitions for span in replayed.plan.spans):
            raise SettingsError(
                f"the target topic has {partitions} partitions, fewer than {replayed.plan.topic}, "
                f"so a device's order would be lost; give it as many"
            )
        self._replayed, self._writer, self._speed = replayed, writer, speed
        self._time = (replayed.facts.time if by == "event" else None) or "log_time"
        self._clock, self._sleep = clock, sleep
        self._start_s = self._first_ms = 0.0
        self.done = Rehearsed(total=replayed.plan.offsets)

    async def run(self) -> Rehearsed:
        """Write everything; return when it is acknowledged.

        Raises:
            HeadraceError: what the bus raised.
        """
        async with AsyncExitStack() as stack:
            streams = []
            for span in self._replayed.plan.spans:
                rows = self._replayed.rows_of(span)
                await stack.enter_async_context(aclosing(rows))
                first = await anext(rows, None)
                if first is not None:
                    streams.append((span.partition, first, rows))
            self._start_s = self._clock()
            times = [self._times(first) for _, first, _ in streams]
            dated = [t[np.isfinite(t)][:1] for t in times]
            self._first_ms = float(min((t[0] for t in dated if len(t)), default=0))
            await all_of(*(self._follow(*stream) for stream in streams))
        return self.done

    async def _follow(self, partition: int, batch: Any, rows: AsyncGenerator[Any]) -> None:
        latest_s = self._start_s
        while batch is not None:
            due_s = self._due(self._times(batch), latest_s)
            latest_s = float(due_s[-1])
            at = 0
            while at < len(due_s):
                await self._until(float(due_s[at]))
                now_s = self._clock()
                ready = int(np.searchsorted(due_s, now_s, "right"))
                stop = min(max(ready, at + 1), at + CHUNK_ROWS)
                self.done.late_s = max(self.done.late_s, now_s - float(due_s[at]))
                await self._write(partition, batch.slice(at, stop - at))
                at = stop
            batch = await anext(rows, None)

    def _times(self, batch: Any) -> F64:
        """Milliseconds since 1970; minus infinity without a time: sent with the row before."""
        column = batch[self._time].cast("int64")
        times: F64 = column.cast("float64", safe=False).to_numpy(zero_copy_only=False)
        return np.where(np.isnan(times), -np.inf, times)

    def _due(self, times: F64, latest_s: float) -> F64:
        if self._speed is None:
            return np.full(len(times), latest_s)
        due = self._start_s + (times - self._first_ms) / 1000 / self._speed
        found: F64 = np.maximum.accumulate(np.maximum(due, latest_s))
        return found

    async def _until(self, at_s: float) -> None:
        while (early_s := at_s - self._clock()) > 0:
            await self._sleep(min(early_s, LONGEST_WAIT_S))

    async def _write(self, partition: int, batch: Any) -> None:
        keys, values, headers = (
            batch[name].to_pylist() for name in batch.schema.names[-len(RAW) :]
        )
        pairs = [[(h["name"], h["value"]) for h in found or ()] for found in headers]
        await self._writer.write(partition, keys, values, pairs)
        self.done.sent += batch.num_rows
