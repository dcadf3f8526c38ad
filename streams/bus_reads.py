"""Reading one assigned partition up to an offset, as columns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

import numpy as np

from headrace.schemas.batch import RecordBatch
from headrace.schemas.errors import BusUnavailableError
from headrace.streams.bus.ends import log_ends

_POLL_MS = 200

Start = Literal["latest", "earliest"] | int
"""Where reading begins: an end of the log, or a broker time in milliseconds since 1970."""


async def read_assigned(
    consumer: Any, part: Any, stop: int, patience_s: float
) -> AsyncIterator[RecordBatch]:
    """Batches of the consumer's partition up to but not including offset `stop`.

    Offsets without a record (transaction markers, compaction) count as read.

    Args:
        consumer: Assigned to `part` and positioned on it.
        part: Topic and partition.
        stop: Offset to stop before; the log holds the one below.
        patience_s: Longest time without progress, seconds.

    Raises:
        BusUnavailableError: no progress for that long: the bus is slow, or a transaction is open
            and the reader waits for its end. Retryable.
    """
    position, moved = await consumer.position(part), time.monotonic()
    while position < stop:
        found = await consumer.getmany(part, timeout_ms=_POLL_MS)
        at = await consumer.position(part)
        if at > position:
            position, moved = at, time.monotonic()
        elif time.monotonic() - moved > patience_s:
            raise BusUnavailableError(
                f"reading {part.topic}[{part.partition}] stands at {position} for "
                f"{patience_s:g} s, expected to reach {stop}; an open transaction may hold it up"
            )
        records = found.get(part, ())
        if records:
            batch = to_batch(part.topic, part.partition, records)
            wanted = int(np.searchsorted(batch.offsets, stop))
            if wanted:
                yield batch.slice(0, wanted)


def to_batch(topic: str, partition: int, records: Sequence[Any]) -> RecordBatch:
    """A client library's records of one partition as columns.

    Args:
        topic: Their topic.
        partition: Their partition.
        records: At least one, in the order of the log.
    """
    headers = [record.headers for record in records]
    return RecordBatch(
        topic,
        partition,
        np.array([record.offset for record in records], np.int64),
        np.array([record.timestamp for record in records], np.int64),
        [record.key for record in records],
        [record.value for record in records],
        headers if any(headers) else None,
    )


async def log_edges(consumer: Any, parts: Sequence[Any]) -> dict[Any, tuple[int, int]]:
    """Of each partition the first offset in the log, and the offset after its last."""
    begin, end = await asyncio.gather(consumer.beginning_offsets(parts), log_ends(consumer, parts))
    return {part: (begin[part], end[part]) for part in parts}


async def start_offsets(consumer: Any, parts: Sequence[Any], start: Start) -> dict[Any, int]:
    """Where reading begins for a start: an end of the log, or a time."""
    ranges = await log_edges(consumer, parts)
    if isinstance(start, str):
        return {part: ranges[part][start == "latest"] for part in parts}
    found = await consumer.offsets_for_times(dict.fromkeys(parts, start))
    return {part: found[part].offset if found.get(part) else ranges[part][1] for part in parts}
