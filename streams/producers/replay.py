"""Send a file into a topic: at its pace, in bounded memory, to be stopped and resumed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from headrace.streams.client.outbox import Receipt
from headrace.streams.client.producer import Producer, Record
from headrace.streams.producers.file_facts import NO_TIME, Row
from headrace.streams.producers.file_rows import Rows
from headrace.streams.producers.pace import Due, Pace

CHUNK_ROWS = 500
OPEN_CHUNKS = 16
"""Chunks handed to the producer and not acknowledged: more are not read before there is room."""
LEAST_WAIT_S, LONGEST_WAIT_S = 0.002, 0.2
NAMED = 20
"""Bad rows that are named; all are counted."""


@dataclass(slots=True)
class Replayed:
    """What a replay did.

    Attributes:
        sent: Rows acknowledged by all replicas.
        bad: Rows with a fault, sent or not.
        left_out: Rows that were not sent.
        named: The first of the bad ones: number and fault.
        late_s: Longest delay of a row against its schedule, seconds.
        end: Where the first row that is not acknowledged begins, as `Row.end`.
        number: Of the row before it.
        begun: Where the replay began, as `Row.end`.
    """

    sent: int = 0
    bad: int = 0
    left_out: int = 0
    named: list[tuple[int, str]] = field(default_factory=list)
    late_s: float = 0.0
    end: int = 0
    number: int = 0
    begun: int = 0

    def note(self, number: int, fault: str, *, sent: bool) -> None:
        """Count a bad row, and name it where few were named."""
        self.bad += 1
        self.left_out += not sent
        if len(self.named) < NAMED:
            self.named.append((number, fault))


@dataclass(slots=True)
class _Chunk:
    """Rows that are sent together, and the place after them."""

    end: int
    number: int
    records: list[Record] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)


_Chunks: TypeAlias = "asyncio.Queue[tuple[_Chunk, Receipt] | None]"


class Replay:
    """One replay of a file.

    A row that is a JSON object is sent as it is, whatever the pipeline will say of it; one that is
    none is sent as well, without a key, since judging it is the pipeline's business. Rows of a
    table that cannot be made an event are left out. With `judge`, so is everything that the
    pipeline would refuse.

    Args:
        rows: The file's.
        pace: When each is due.
        judge: Codes of the events that the pipeline would refuse, by place among those given.
        now: Wall clock, seconds since 1970.
        sleep: Waits.

    Delivery: at-least-once and in order. `done.end` is a place before which everything is
    acknowledged, so that who resumes there loses nothing and may send a chunk again.
    """

    def __init__(
        self,
        rows: Rows,
        pace: Pace,
        *,
        judge: Callable[[list[Record]], dict[int, str]] | None = None,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._rows, self._pace = rows, pace
        self._judge, self._now, self._sleep = judge, now, sleep
        self.done = Replayed()

    async def run(
        self, producer: Producer, stop: asyncio.Event, *, begin: int = 0, number: int = 0
    ) -> Replayed:
        """Send the rows from a place on; return when they are acknowledged.

        Args:
            producer: Entered; sends what it is given as it is.
            stop: Ends it early, having sent what was read.
            begin: Where to begin, as `Row.end` of a row before.
            number: Of that row.

        Raises:
            HeadraceError: what the bus raised.
        """
        done = self.done
        done.end, done.number, done.begun = begin, number, begin
        chunks: _Chunks = asyncio.Queue(OPEN_CHUNKS)
        tasks = [
            asyncio.create_task(self._send(producer, stop, chunks)),
            asyncio.create_task(self._settle(chunks)),
        ]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in ended:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return done

    async def _send(self, producer: Producer, stop: asyncio.Event, chunks: _Chunks) -> None:
        done = self.done
        chunk = _Chunk(done.end, done.number)
        for row in self._rows.read(done.end, done.number):
            due = self._pace.due(row)
            early_s = due.at_s - self._now()
            if len(chunk.records) >= CHUNK_ROWS or (early_s > 0 and chunk.end > done.end):
                await self._post(producer, chunk, chunks)
                chunk = _Chunk(chunk.end, chunk.number)
            await self._until(due.at_s, stop)
            if stop.is_set():
                break
            done.late_s = max(done.late_s, self._now() - due.at_s)
            self._add(chunk, row, due)
        await self._post(producer, chunk, chunks)
        await chunks.put(None)

    async def _until(self, at_s: float, stop: asyncio.Event) -> None:
        while (early_s := at_s - self._now()) > 0 and not stop.is_set():
            # What falls due within the least wait goes together.
            await self._sleep(min(max(early_s, LEAST_WAIT_S), LONGEST_WAIT_S))

    def _add(self, chunk: _Chunk, row: Row, due: Due) -> None:
        """Put a row into the chunk, or leave it out."""
        chunk.end, chunk.number = row.end, row.number
        # Whether an event without a time is one is told by the judge, where there is one.
        if row.fault and not (self._judge is not None and row.fault == NO_TIME):
            is_lost = not row.value or self._judge is not None
            self.done.note(row.number, row.fault, sent=not is_lost)
            if is_lost:
                return
        value = row.value if due.time_ms is None else self._rows.facts.moved(row, due.time_ms)
        chunk.records.append(Record(value, row.key))
        chunk.numbers.append(row.number)

    async def _post(self, producer: Producer, chunk: _Chunk, chunks: _Chunks) -> None:
        refused = self._judge(chunk.records) if self._judge is not None else {}
        for place, code in refused.items():
            self.done.note(chunk.numbers[place], f"would be refused: {code}", sent=False)
        records = [r for place, r in enumerate(chunk.records) if place not in refused]
        receipt = await producer.send_many(records)
        await chunks.put((chunk, receipt))
        # A producer with room accepts at once: others have their turn here.
        await asyncio.sleep(0)

    async def _settle(self, chunks: _Chunks) -> None:
        """Follow the acknowledgements, in order."""
        while (item := await chunks.get()) is not None:
            chunk, receipt = item
            self.done.sent += len(await receipt)
            self.done.end, self.done.number = chunk.end, chunk.number
