"""What comes into one partition of a topic from a moment on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from headrace.schemas.batch import RecordBatch
from headrace.streams.bus.connection import Options, all_parts, lone_consumer, mapped_errors
from headrace.streams.bus.ends import log_ends
from headrace.streams.bus.header_names import expect_any
from headrace.streams.bus.reads import to_batch

_POLL_MS = 50


class Tail:
    """Reads one partition at a time, without a group; made by `tail_of`.

    Attributes:
        topic: Topic name.
        count: Its partitions.
    """

    def __init__(self, consumer: Any, topic: str, parts: list[Any]) -> None:
        self.topic, self.count = topic, len(parts)
        self._consumer, self._parts, self._part = consumer, parts, parts[0]
        self._position = 0

    async def begin(self, number: int) -> None:
        """From now on read what comes into this partition.

        Raises:
            BusUnavailableError: retryable. BusRefusedError: fatal.
        """
        self._part = self._parts[number]
        with mapped_errors(f"asking for the end of {self.topic}[{number}]"):
            self._consumer.assign([self._part])
            self._position = (await log_ends(self._consumer, [self._part]))[self._part]
            self._consumer.seek(self._part, self._position)

    async def more(self) -> RecordBatch | None:
        """What came since the last call; None where nothing did within 50 ms.

        Raises:
            BusUnavailableError: retryable. BusRefusedError: fatal.
        """
        part = self._part
        with mapped_errors(f"reading {self.topic}[{part.partition}]"):
            try:
                found = await self._consumer.getmany(part, timeout_ms=_POLL_MS)
            except UnicodeDecodeError:
                expect_any()
                self._consumer.seek(part, self._position)
                return None
        records = found.get(part, ())
        if not records:
            return None
        self._position = records[-1].offset + 1
        return to_batch(part.topic, part.partition, records)


@asynccontextmanager
async def tail_of(options: Options, topic: str, *, read_committed: bool) -> AsyncIterator[Tail]:
    """A connected reader of what comes into a topic.

    Raises:
        TopicError: there is no such topic. Fatal.
        BusUnavailableError: retryable; BusRefusedError: fatal.
    """
    level = "read_committed" if read_committed else "read_uncommitted"
    async with lone_consumer(options, f"reading {topic}", isolation_level=level) as consumer:
        yield Tail(consumer, topic, await all_parts(consumer, [topic]))
