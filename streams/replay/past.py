"""Reads of the past beside any group, and what they need to know of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from headrace.feature_store.snapshots import Snapshots
from headrace.schemas.batch import LastRecord, RecordBatch
from headrace.streams.bus import reads
from headrace.streams.replay.definitions import Definitions


class PastLog(Protocol):
    """Logs as they are, read by nobody's group."""

    def read_range(
        self, topic: str, partition: int, start: int, stop: int
    ) -> AsyncIterator[RecordBatch]:
        """Records from `start` up to but not including `stop`, in order."""

    async def last_record(self, topic: str, partition: int, offset: int) -> LastRecord | None:
        """What identifies the record at `offset`; None when the log has no such record."""

    async def log_range(self, topic: str, partition: int) -> tuple[int, int]:
        """First offset in the log, and the offset after its last."""

    async def offset_at(self, topic: str, partition: int, time_ms: int) -> int:
        """Offset of the first record at or after a broker time; the log's end for none."""


@dataclass(frozen=True, slots=True)
class BusLog:
    """`PastLog` on a bus; of transactions only what was committed.

    Attributes:
        options: Client options.
    """

    options: dict[str, Any]

    def read_range(
        self, topic: str, partition: int, start: int, stop: int
    ) -> AsyncIterator[RecordBatch]:
        """See `PastLog`."""
        return reads.read_range(self.options, topic, partition, start, stop, read_committed=True)

    async def last_record(self, topic: str, partition: int, offset: int) -> LastRecord | None:
        """See `PastLog`."""
        return await reads.last_record(self.options, topic, partition, offset)

    async def log_range(self, topic: str, partition: int) -> tuple[int, int]:
        """See `PastLog`."""
        return await reads.log_range(self.options, topic, partition)

    async def offset_at(self, topic: str, partition: int, time_ms: int) -> int:
        """See `PastLog`."""
        return (await reads.offset_at_time(self.options, topic, time_ms))[partition]


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
