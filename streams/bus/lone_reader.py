"""One topic read beside any group, over one connection: its edges, its times, its records."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from headrace.schemas.batch import RecordBatch
from headrace.streams.bus.connection import Options, all_parts, lone_consumer, mapped_errors
from headrace.streams.bus.raw_batch import RawBatch
from headrace.streams.bus.reads import log_edges, start_offsets
from headrace.streams.bus.scan import FETCH_BYTES, scan


class LoneReader:
    """Reads a topic without a group; made by `lone_reader`.

    Attributes:
        topic: Topic name.
        partitions: Their numbers.
    """

    def __init__(self, consumer: Any, topic: str, parts: list[Any], patience_s: float) -> None:
        self.topic = topic
        self.partitions = [part.partition for part in parts]
        self._consumer, self._patience_s = consumer, patience_s
        self._parts = {part.partition: part for part in parts}

    async def edges(self) -> dict[int, tuple[int, int]]:
        """Of each partition the first offset in the log, and the offset after its last.

        Raises:
            BusUnavailableError: retryable. BusRefusedError: fatal.
        """
        with mapped_errors(f"asking for the log of {self.topic}"):
            found = await log_edges(self._consumer, list(self._parts.values()))
        return {part.partition: offsets for part, offsets in found.items()}

    async def at_time(self, time_ms: int) -> dict[int, int]:
        """Of each partition the first offset at or after a broker time; its end where none is.

        Raises:
            BusUnavailableError: retryable. BusRefusedError: fatal.
        """
        with mapped_errors(f"asking for times of {self.topic}"):
            found = await start_offsets(self._consumer, list(self._parts.values()), time_ms)
        return {part.partition: offset for part, offset in found.items()}

    async def read(
        self, partition: int, start: int, stop: int, *, fetch_bytes: int = FETCH_BYTES
    ) -> AsyncIterator[RecordBatch]:
        """Records of one partition from `start` up to but not including `stop`; see `scan`.

        Raises:
            StateError: a record has left the log. BusRefusedError. Both fatal.
            BusUnavailableError: retryable.
        """
        async for batch in self.read_raw(partition, start, stop, fetch_bytes=fetch_bytes):
            yield batch.records()

    async def read_raw(
        self, partition: int, start: int, stop: int, *, fetch_bytes: int = FETCH_BYTES
    ) -> AsyncIterator[RawBatch]:
        """The same as they came, without an object for each record."""
        with mapped_errors(f"reading {self.topic}[{partition}] from {start}"):
            async for batch in scan(
                self._consumer,
                self._parts[partition],
                start,
                stop,
                patience_s=self._patience_s,
                fetch_bytes=fetch_bytes,
            ):
                yield batch


@asynccontextmanager
async def lone_reader(options: Options, topic: str) -> AsyncIterator[LoneReader]:
    """A connected reader of committed records of one topic.

    Raises:
        TopicError: there is no such topic. Fatal.
        BusUnavailableError: retryable; BusRefusedError: fatal.
    """
    tried = f"reading {topic}"
    async with lone_consumer(options, tried, isolation_level="read_committed") as consumer:
        parts = await all_parts(consumer, [topic])
        yield LoneReader(consumer, topic, parts, options["request_timeout_ms"] / 1000)
