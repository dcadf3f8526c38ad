"""Dead letters as records one can work with, and the marks of those that were redriven."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from headrace.schemas.batch import Headers, RecordBatch
from headrace.schemas.deadletter import CUTS, REDRIVE, REDRIVEN, parse_source, split_headers
from headrace.schemas.errors import Source
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.settings import BusSettings
from headrace.schemas.topics import topics_of
from headrace.streams.client.bus import Bus, Start
from headrace.streams.client.clock import wall_clock
from headrace.streams.client.connect import bus_of
from headrace.streams.client.marks import Marks, NoMarks
from headrace.streams.client.topic_reader import TopicReader

BATCH_ROWS = 500
"""Most dead letters in hand at once: what an interrupted redrive can repeat."""

PATIENCE_S = 2.0
"""Longest wait for one record that may not be there."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One record that could not be served; or the mark that one was redriven (`is_mark`).

    Attributes:
        at: Its own coordinates in the dead-letter topic.
        at_ms: Its own broker time, milliseconds since 1970.
        code: Why.
        source: Where it was, ``topic[partition]@offset``.
        stage: Which stage gave up on it.
        attempt: How often it was tried.
        pipeline: Pipeline name and digest.
        first_seen_ms: Broker time of the original, milliseconds since 1970.
        model: Digest of the model that refused it; None where none did.
        redriven_to: Of a mark: where the dead letter went, None where the bus did not tell.
        original_bytes: Size of the original value where only its beginning was kept.
        is_cut: It is not the whole record: value, key or headers were too large.
        tombstone: The original had no value.
        key: The original's key.
        headers: The original's headers, as read.
        value: The original bytes, or their beginning.
    """

    at: str
    at_ms: int
    code: str
    source: str
    stage: str
    attempt: int
    pipeline: str
    first_seen_ms: int
    model: str | None = None
    redriven_to: str | None = None
    original_bytes: int | None = None
    is_cut: bool = False
    tombstone: bool = False
    key: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    value: bytes

    @property
    def is_mark(self) -> bool:
        """It says that the dead letter at `source` was redriven, and is none itself."""
        return self.stage == REDRIVE and self.code == REDRIVEN

    @property
    def place(self) -> Source:
        """Its own coordinates."""
        return parse_source(self.at)

    @property
    def origin(self) -> Source:
        """Coordinates of the record it was."""
        return parse_source(self.source)


class _Seeks:
    """Reads from one record on (a `bus.Owner`); of other partitions only what is yet to come."""

    def __init__(self, at: Source) -> None:
        self._at = at

    async def assigned(self, starts: Mapping[int, Start]) -> Mapping[int, int]:
        """See `Owner.assigned`."""
        latest = {partition: start.position.offset for partition, start in starts.items()}
        here = {self._at.partition: self._at.offset} if self._at.partition in starts else {}
        return latest | here

    async def revoked(self, partitions: Set[int]) -> None:
        """Nothing is committed."""


class DeadLetters:
    """Records of a dead-letter topic (a `Content`); nothing is dropped as a repeat."""

    tail_rows = 0

    def read(self, records: RecordBatch) -> list[DeadLetter | None]:
        """Each record, None where its headers are not those of a dead letter."""
        return [self._one(records, row) for row in range(len(records))]

    def arrive(self, rows: Sequence[tuple[DeadLetter, bool]], now_ms: float) -> int:
        """Nothing is overdue."""
        return 0

    def marks(self) -> Marks[DeadLetter]:
        """See `reading.Content.marks`."""
        return NoMarks()

    def _one(self, records: RecordBatch, row: int) -> DeadLetter | None:
        headers: Headers = records.headers[row] if records.headers else ()
        original, ours = split_headers(headers)
        try:
            text = {name: value.decode() for name, value in ours.items()}
            return DeadLetter(
                at=str(records.source(row)),
                at_ms=int(records.log_times_ms[row]),
                code=text["code"],
                source=str(parse_source(text["source"])),
                stage=text["stage"],
                attempt=int(text["attempt"]),
                pipeline=text["pipeline"],
                first_seen_ms=int(text["first_seen"]),
                model=text.get("model"),
                redriven_to=text.get("redriven_to"),
                original_bytes=int(text["original_bytes"]) if "original_bytes" in text else None,
                is_cut=not text.keys().isdisjoint(CUTS),
                tombstone="tombstone" in text,
                key=records.keys[row],
                headers=tuple(original),
                value=records.values[row] or b"",
            )
        except (KeyError, ValueError, AttributeError):
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which dead letters are meant.

    Attributes:
        since_ms: Dead since then, by the broker's time, milliseconds since 1970; None for all.
        reason: Only of this code.
        stage: Only of this stage.
    """

    since_ms: float | None = None
    reason: str | None = None
    stage: str | None = None

    def takes(self, letter: DeadLetter) -> bool:
        """Whether it is one of them."""
        return (
            (self.since_ms is None or letter.at_ms >= self.since_ms)
            and self.reason in (None, letter.code)
            and self.stage in (None, letter.stage)
        )

    @property
    def start(self) -> str:
        """Where reading begins: a mark is younger than what it marks, so it is read too."""
        if self.since_ms is None:
            return "earliest"
        return datetime.fromtimestamp(self.since_ms / 1000, UTC).isoformat()


def dead_letters(
    bus: BusSettings | Mapping[str, Any] | Bus,
    pipeline: Pipeline | str,
    *,
    group: str | None = None,
    start: str = "latest",
    follow: bool = True,
    max_rows: int = 2000,
    now: Callable[[], float] = wall_clock,
) -> TopicReader[DeadLetter]:
    """Dead letters of a pipeline, and marks: raw content, so it must not leave the site."""
    topic = pipeline if isinstance(pipeline, str) else topics_of(pipeline).deadletter.name
    return TopicReader(
        bus,
        topic,
        DeadLetters(),
        group=group,
        start=start,
        follow=follow,
        max_rows=max_rows,
        now=now,
    )


async def read_letter(bus: BusSettings | Mapping[str, Any] | Bus, at: Source) -> DeadLetter | None:
    """The dead letter at these coordinates; None where there is none.

    Raises:
        BusUnavailableError: retryable; TopicError, BusRefusedError: fatal.
    """
    reader = bus_of(bus).reader(at.topic, group=None, start="latest")
    await reader.start(_Seeks(at))
    try:
        # Not by the log's end, which the embedded bus names too low.
        while batches := await reader.fetch(max_rows=1, timeout_s=PATIENCE_S):
            for records in batches:
                if records.partition == at.partition:
                    return DeadLetters().read(records)[0] if records.first == at.offset else None
    finally:
        await reader.stop()
    return None


async def redriven(
    bus: BusSettings | Mapping[str, Any] | Bus, pipeline: Pipeline, wanted: Wanted
) -> dict[str, str | None]:
    """Coordinates of the dead letters that were redriven before, and where each went.

    Memory: about 300 bytes for each of them.

    Raises:
        BusUnavailableError: retryable; TopicError, BusRefusedError: fatal.
    """
    found: dict[str, str | None] = {}
    async with dead_letters(bus, pipeline, start=wanted.start, follow=False) as letters:
        async for batch in letters.batches():
            found |= {letter.source: letter.redriven_to for letter in batch if letter.is_mark}
    return found


async def selected(
    bus: BusSettings | Mapping[str, Any] | Bus, pipeline: Pipeline, wanted: Wanted
) -> AsyncGenerator[list[DeadLetter], None]:
    """The dead letters of this pipeline that are wanted, a batch of one partition at a time.

    Ends at what the topic held on opening. Marks, and what other pipelines leave on a shared
    topic, are passed over.

    Raises:
        BusUnavailableError: retryable; TopicError, BusRefusedError: fatal.
    """
    ours = f"{pipeline.name}@"
    reader = dead_letters(bus, pipeline, start=wanted.start, follow=False, max_rows=BATCH_ROWS)
    async with reader:
        async for batch in reader.batches():
            found = [
                letter
                for letter in batch
                if not letter.is_mark and letter.pipeline.startswith(ours) and wanted.takes(letter)
            ]
            if found:
                yield found
