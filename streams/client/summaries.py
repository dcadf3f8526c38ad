"""Readers of the topics beside the predictions: summaries and dead letters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from headrace.schemas.batch import RecordBatch
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.settings import BusSettings
from headrace.schemas.summary import SummaryRecord
from headrace.schemas.topics import topics_of
from headrace.streams.client.bus import Bus
from headrace.streams.client.clock import wall_clock
from headrace.streams.client.marks import Marks, NoMarks, SummaryMarks
from headrace.streams.client.topic_reader import TopicReader


class Summaries:
    """Records of a summaries topic (a `Content`)."""

    tail_rows = 4096

    def __init__(self) -> None:
        self._decode = msgspec.json.Decoder(SummaryRecord).decode

    def read(self, records: RecordBatch) -> list[SummaryRecord | None]:
        """Each record, None where it is no summary."""
        return [self._one(value) for value in records.values]

    def arrive(self, rows: Sequence[tuple[SummaryRecord, bool]], now_ms: float) -> int:
        """Nothing is overdue."""
        return 0

    def marks(self) -> Marks[SummaryRecord]:
        """See `reading.Content.marks`."""
        return SummaryMarks()

    def _one(self, value: bytes | None) -> SummaryRecord | None:
        try:
            return self._decode(value or b"")
        except (msgspec.DecodeError, RecursionError):
            return None


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One record that could not be served.

    Attributes:
        at: Its own coordinates in the dead-letter topic.
        code: Why.
        source: Where it was, ``topic[partition]@offset``.
        stage: Which stage gave up on it.
        attempt: How often it was tried.
        pipeline: Pipeline name and digest.
        first_seen_ms: Broker time of the original, milliseconds since 1970.
        value: The original bytes, or their beginning.
    """

    at: str
    code: str
    source: str
    stage: str
    attempt: int
    pipeline: str
    first_seen_ms: int
    value: bytes


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
        headers = dict(records.headers[row]) if records.headers else {}
        try:
            text = {name: headers[name].decode() for name in ("code", "source", "stage")}
            return DeadLetter(
                at=str(records.source(row)),
                attempt=int(headers["attempt"]),
                pipeline=headers["pipeline"].decode(),
                first_seen_ms=int(headers["first_seen"]),
                value=records.values[row] or b"",
                **text,
            )
        except (KeyError, ValueError):
            return None


def summaries(
    bus: BusSettings | Mapping[str, Any] | Bus,
    pipeline: Pipeline | str,
    *,
    group: str | None = None,
    start: str = "latest",
    follow: bool = True,
    now: Callable[[], float] = wall_clock,
) -> TopicReader[SummaryRecord]:
    """Summaries of a pipeline, one per partition, window and group; repeats are dropped.

    A repeat is equal to the letter to one of the last 4096 summaries of its partition.
    """
    topic = pipeline if isinstance(pipeline, str) else topics_of(pipeline).summaries.name
    return TopicReader(bus, topic, Summaries(), group=group, start=start, follow=follow, now=now)


def dead_letters(
    bus: BusSettings | Mapping[str, Any] | Bus,
    pipeline: Pipeline | str,
    *,
    group: str | None = None,
    start: str = "latest",
    follow: bool = True,
    now: Callable[[], float] = wall_clock,
) -> TopicReader[DeadLetter]:
    """Dead letters of a pipeline: raw content, so it must not leave the site."""
    topic = pipeline if isinstance(pipeline, str) else topics_of(pipeline).deadletter.name
    return TopicReader(bus, topic, DeadLetters(), group=group, start=start, follow=follow, now=now)
