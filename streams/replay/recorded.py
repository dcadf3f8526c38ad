"""What was served: feature blocks and predictions as they lie on their topics."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

import msgspec
import numpy as np

from headrace.schemas.batch import I64, RecordBatch
from headrace.schemas.block import FeatureBlock
from headrace.schemas.deadletter import parse_source
from headrace.schemas.prediction import PredictionModel, PredictionTimes


class Sliced(Protocol):
    """Rows in a sequence."""

    def slice(self, start: int, stop: int) -> Self:
        """Rows `start` to `stop`."""


T = TypeVar("T", bound=Sliced)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A prediction with its numbers as written (see `schemas.prediction.Prediction`)."""

    id: str
    event_id: str
    device_id: str
    event_time: str
    score: msgspec.Raw
    label: str
    confidence: msgspec.Raw
    tier: str
    flags: tuple[str, ...]
    feature_age_ms: int
    model: PredictionModel
    source: str
    times_ms: PredictionTimes
    values: dict[str, msgspec.Raw] = {}


@dataclass(slots=True)
class Stretch(Generic[T]):
    """Rows of one source partition, in the order in which they were published.

    Attributes:
        topic: Source topic.
        offsets: int64 (N,), source offsets; ascending.
        rows: The rows.
    """

    topic: str
    offsets: I64
    rows: T

    def slice(self, start: int, stop: int) -> Stretch[T]:
        """Rows `start` to `stop`."""
        return Stretch(self.topic, self.offsets[start:stop], self.rows.slice(start, stop))


Answers = Stretch["AnswerRows"]
Blocks = Stretch[FeatureBlock]


@dataclass(slots=True)
class AnswerRows:
    """Predictions in a row."""

    answers: list[Answer]

    def slice(self, start: int, stop: int) -> AnswerRows:
        """Rows `start` to `stop`."""
        return AnswerRows(self.answers[start:stop])


@dataclass(slots=True)
class Unread:
    """Records that are not what their topic should hold.

    Attributes:
        count: How many.
        first: The first of them, ``topic[partition]@offset``.
    """

    count: int = 0
    first: str | None = None

    def add(self, records: RecordBatch, row: int) -> None:
        """Note one."""
        self.count += 1
        self.first = self.first or str(records.source(row))


async def recorded_blocks(
    batches: AsyncIterator[RecordBatch], unread: Unread
) -> AsyncIterator[Blocks]:
    """Every block with rows, one by one.

    Args:
        batches: Records of one partition of the features topic.
        unread: Is told of records that are no block.
    """
    async for records in batches:
        for row, value in enumerate(records.values):
            try:
                block = FeatureBlock.decode(value or b"")
            except ValueError:
                unread.add(records, row)
                continue
            if len(block):
                yield Stretch(block.topic, block.offsets, block)


async def recorded_answers(
    batches: AsyncIterator[RecordBatch], unread: Unread
) -> AsyncIterator[Answers]:
    """Predictions, in stretches of one source topic with ascending offsets.

    Args:
        batches: Records of one partition of the predictions topic.
        unread: Is told of records that are no prediction.
    """
    decode = msgspec.json.Decoder(Answer).decode
    async for records in batches:
        found: list[Answer] = []
        offsets: list[int] = []
        for row, value in enumerate(records.values):
            try:
                answer = decode(value or b"")
                place, _, offset = answer.source.rpartition("@")
                at = int(offset)
            except (msgspec.DecodeError, ValueError):
                unread.add(records, row)
                continue
            if found and (at <= offsets[-1] or not found[-1].source.startswith(place + "@")):
                yield _stretch(found, offsets)
                found, offsets = [], []
            found.append(answer)
            offsets.append(at)
        if found:
            yield _stretch(found, offsets)


def _stretch(found: list[Answer], offsets: list[int]) -> Answers:
    return Stretch(
        parse_source(found[0].source).topic, np.array(offsets, np.int64), AnswerRows(found)
    )


class Ahead(Generic[T]):
    """Stretches, with a look at the next one.

    Args:
        stretches: Where they come from.
        topic: Source topic of which they are wanted; others are passed over.
    """

    def __init__(self, stretches: AsyncIterator[Stretch[T]], topic: str) -> None:
        self._stretches = stretches
        self._topic = topic
        self._next: Stretch[T] | None = None
        self._ended = False

    async def peek(self) -> Stretch[T] | None:
        """The next one, which stays; None at the end."""
        while self._next is None and not self._ended:
            found = await anext(self._stretches, None)
            self._ended = found is None
            if found is not None and found.topic == self._topic:
                self._next = found
        return self._next

    async def take(self, start: int, stop: int) -> Stretch[T] | None:
        """Rows from offset `start` to `stop` of the next one; None where it has none of them.

        What lies below `start` is passed over; what lies at or above `stop` stays.
        """
        head = await self.peek()
        if head is None:
            return None
        first, last = (int(at) for at in np.searchsorted(head.offsets, (start, stop)))
        self._next = head.slice(last, len(head.offsets)) if last < len(head.offsets) else None
        return head.slice(first, last) if first < last else None

    async def skip(self) -> None:
        """Pass over the next one."""
        await self.peek()
        self._next = None
