"""Reads of the past beside any group, and what they need to know of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from headrace.feature_store.snapshots import Snapshots
from headrace.schemas.batch import LastRecord, RecordBatch
from headrace.schemas.errors import TopicError
from headrace.streams.bus.connection import Options
from headrace.streams.bus.lone_reader import LoneReader, lone_reader
from headrace.streams.replay.definitions import Definitions


class PastLog(Protocol):
    """Logs as they are, read by nobody's group."""

    def read_range(
        self, topic: str, partition: int, start: int, stop: int
    ) -> AsyncIterator[RecordBatch]:
        """Records from `start` up to but not including `stop` or the log's end, in order."""

    async def last_record(self, topic: str, partition: int, offset: int) -> LastRecord | None:
        """What identifies the record at `offset`; None when the log has no such record."""

    async def log_range(self, topic: str, partition: int) -> tuple[int, int]:
        """First offset in the log, and the offset after its last."""

    async def offset_at(self, topic: str, partition: int, time_ms: int) -> int:
        """Offset of the first record at or after a broker time; the log's end for none."""


class BusLog:
    """`PastLog` on a bus, a connection for each topic; of transactions only what was committed.

    Args:
        options: Client options.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self._open = AsyncExitStack()
        self._readers: dict[str, LoneReader] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        await self._open.aclose()

    async def reader(self, topic: str) -> LoneReader:
        """The connection of one topic.

        Raises:
            TopicError: there is no such topic. Fatal.
            BusUnavailableError: retryable; BusRefusedError: fatal.
        """
        if topic not in self._readers:
            reader = lone_reader(self.options, topic)
            self._readers[topic] = await self._open.enter_async_context(reader)
        return self._readers[topic]

    async def read_range(
        self, topic: str, partition: int, start: int, stop: int
    ) -> AsyncIterator[RecordBatch]:
        """See `PastLog`."""
        reader = await self.reader(topic)
        _, end = await self.log_range(topic, partition)
        if start < min(stop, end):
            reading = reader.read(partition, start, min(stop, end))
            async with closing(reading):
                async for batch in reading:
                    yield batch

    async def last_record(self, topic: str, partition: int, offset: int) -> LastRecord | None:
        """See `PastLog`."""
        begin, end = await self.log_range(topic, partition)
        if not begin <= offset < end:
            return None
        reading = self.read_range(topic, partition, offset, offset + 1)
        async with closing(reading):
            found = await anext(reading, None)
        return None if found is None or found.first != offset else found.last_record()

    async def log_range(self, topic: str, partition: int) -> tuple[int, int]:
        """See `PastLog`."""
        edges = await (await self.reader(topic)).edges()
        if partition not in edges:
            raise TopicError(f"topic {topic!r} has no partition {partition}; check its topics")
        return edges[partition]

    async def offset_at(self, topic: str, partition: int, time_ms: int) -> int:
        """See `PastLog`."""
        return (await (await self.reader(topic)).at_time(time_ms))[partition]


@dataclass(frozen=True, slots=True)
class Past:
    """What a replay of computed things reads.

    Attributes:
        log: Logs of the bus.
        definitions: Pipeline files and models, as they were.
        snapshots: States as they were; None where none are kept.
        warm_up: Begin with nothing this many offsets before the stretch; None takes the nearest
            snapshot, or all there is.
    """

    log: PastLog
    definitions: Definitions
    snapshots: Snapshots | None = None
    warm_up: int | None = None


@asynccontextmanager
async def closing(log: AsyncIterator[RecordBatch]) -> AsyncIterator[None]:
    """Let go of a read in the end, wherever it stands."""
    try:
        yield
    finally:
        if isinstance(log, AsyncGenerator):
            await log.aclose()
