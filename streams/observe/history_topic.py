"""The topic of a pipeline's history: what is on it, and the task that adds to it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from headrace.schemas.errors import HeadraceError, RetryableError
from headrace.schemas.observed import ObservedRecord
from headrace.streams.client.bus import BusWriter
from headrace.streams.client.clock import wall_clock
from headrace.streams.observe.history import EVERY_S, History

log = logging.getLogger("headrace.history")

MOST_WAITING = 60
"""Records that wait while the bus is away: an hour's; of more the newest."""

TAILS = (120, 1200, 12_000)
"""How far a restart looks back, records: those of other machines and consumers lie between."""

AGAIN_S = 2.0
STOP_S = 2.0

_decode = msgspec.json.Decoder(ObservedRecord).decode


class HistoryTopic:
    """Restores a history from its topic, then adds a record to it each minute.

    Delivery: at least once; a repeat has the same life and number. What could not be written for
    an hour is lost, oldest first.

    Args:
        options: Client options of the bus.
        topic: Topic name; one partition.
        history: What makes the records.
        monotonic: Seconds that only rise, those of the objectives.
        wall: Wall clock, seconds since 1970.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        topic: str,
        history: History,
        *,
        every_s: float = EVERY_S,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = wall_clock,
    ) -> None:
        self._options, self._topic, self._history = dict(options), topic, history
        self._every_s, self._monotonic, self._wall = every_s, monotonic, wall
        self._waiting: deque[ObservedRecord] = deque(maxlen=MOST_WAITING)
        self._writer: BusWriter | None = None
        self._failing = False

    async def run(self) -> None:
        """Restore, then write until cancelled, and once more then.

        What fails in it ends the history with one line, never the pipeline.
        """
        try:
            await self._keep()
        except Exception:  # task boundary: who watches takes nothing down
            log.exception("the history on topic %s ends", self._topic)

    async def _keep(self) -> None:
        await self._restore()
        began_s = self._monotonic()
        try:
            while True:
                await asyncio.sleep(self._every_s)
                began_s = await self._turn(began_s, whole=False)
        finally:
            if self._writer is not None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(STOP_S):
                        await self._turn(began_s, whole=True)
                await self._writer.stop()

    async def _restore(self) -> None:
        """Take up what the topic tells; wait for a bus that is away, or all would begin anew."""
        while True:
            try:
                found = await self._tail()
                self._history.restore(found, self._monotonic(), round(self._wall() * 1000))
            except RetryableError:
                await asyncio.sleep(AGAIN_S)
                continue
            except HeadraceError as error:
                log.warning("budgets and drift begin anew: %s", error)
            except (ValueError, IndexError):
                log.warning("budgets and drift begin anew: no image of ours on %s", self._topic)
            return

    async def _tail(self) -> list[ObservedRecord]:
        """The newest records, as far back as an image of ours is, at most `TAILS`."""
        found: list[ObservedRecord] = []
        for most in TAILS:
            found = await newest_records(self._options, self._topic, most)
            if self._history.is_enough(found):
                break
        return found

    async def _turn(self, began_s: float, *, whole: bool) -> float:
        """Add a record, and write those that wait; when this one ends."""
        now_s, now_ms = self._monotonic(), round(self._wall() * 1000)
        self._waiting.append(self._history.record(now_ms, now_s - began_s, whole=whole))
        try:
            await self._write()
        except HeadraceError as error:
            if not self._failing:
                log.warning("the history is not written, and waits for an hour: %s", error)
            self._failing = True
        else:
            self._failing = False
        return now_s

    async def _write(self) -> None:
        if self._writer is None:
            # Loads the client only now: the first prediction does not wait for it.
            from headrace.streams.client.kafka_bus import KafkaBus

            writer = KafkaBus(self._options).writer(self._topic)
            await writer.start()
            self._writer = writer
        try:
            while self._waiting:
                value = msgspec.json.encode(self._waiting[0])
                await self._writer.write(0, [None], [value], [()])
                self._waiting.popleft()
        except HeadraceError:
            # A producer whose batch failed may be unusable: the next turn makes another.
            failed, self._writer = self._writer, None
            await failed.stop()
            raise


async def newest_records(options: Mapping[str, Any], topic: str, most: int) -> list[ObservedRecord]:
    """The last `most` records of a history, oldest first; what is none is passed over.

    Raises:
        BusUnavailableError: retryable. BusRefusedError, TopicError: fatal.
    """
    from headrace.streams.bus.reads import log_range, read_range

    begin, end = await log_range(dict(options), topic, 0)
    found = []
    async for batch in read_range(dict(options), topic, 0, max(begin, end - most), end):
        found += [record for value in batch.values if (record := read(value)) is not None]
    return found


def read(value: bytes | None) -> ObservedRecord | None:
    """A record's value, None where it is none of a history."""
    try:
        return _decode(value or b"")
    except (msgspec.DecodeError, RecursionError):
        return None


async def records(
    options: Mapping[str, Any], topic: str, since_ms: int
) -> AsyncGenerator[ObservedRecord, None]:
    """What is on the topic since a broker time, each record once.

    Raises:
        BusUnavailableError: retryable. BusRefusedError, TopicError: fatal.
    """
    from headrace.streams.bus.reads import log_range, offset_at_time, read_range

    start = (await offset_at_time(options, topic, since_ms))[0]
    _, end = await log_range(options, topic, 0)
    last: dict[str, int] = {}
    async for batch in read_range(options, topic, 0, start, end):
        for record in map(read, batch.values):
            if record is not None and record.number > last.get(record.life, -1):
                last[record.life] = record.number
                yield record
