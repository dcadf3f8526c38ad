"""Reading logs beside any group: their ranges, times and records, as columns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

import numpy as np
from aiokafka import TopicPartition  # type: ignore[import-untyped]

from headrace.schemas.batch import LastRecord, RecordBatch
from headrace.schemas.errors import BusUnavailableError, StateError, TopicError
from headrace.streams.bus.connection import Options, all_parts, lone_consumer
from headrace.streams.bus.ends import log_ends
from headrace.streams.bus.header_names import expect_any

_POLL_MS = 200

Start = Literal["latest", "earliest"] | int
"""Where reading begins: an end of the log, or a broker time in milliseconds since 1970."""


async def log_ranges(options: Options, topic: str) -> dict[int, tuple[int, int]]:
    """Of each partition the first offset in the log, and the offset after its last.

    Raises:
        TopicError: there is no such topic. Fatal.
        BusUnavailableError: retryable; BusRefusedError: fatal.
    """
    async with lone_consumer(options, f"asking for the log of {topic}") as consumer:
        found = await log_edges(consumer, await all_parts(consumer, [topic]))
    return {part.partition: offsets for part, offsets in found.items()}


async def log_range(options: Options, topic: str, partition: int) -> tuple[int, int]:
    """First offset in the log of one partition, and the offset after its last.

    Raises:
        TopicError: there is no such partition. Fatal.
        BusUnavailableError: retryable; BusRefusedError: fatal.
    """
    async with lone_consumer(options, f"asking for the log of {topic}[{partition}]") as consumer:
        part = TopicPartition(topic, partition)
        if part not in await all_parts(consumer, [topic]):
            raise TopicError(f"topic {topic!r} has no partition {partition}; check its topics")
        return (await log_edges(consumer, [part]))[part]


async def offset_at_time(options: Options, topic: str, time_ms: int) -> dict[int, int]:
    """Of each partition the offset of the first record at or after a time.

    Args:
        options: Client options.
        topic: Topic name.
        time_ms: Milliseconds since 1970, in the broker's time.

    Returns:
        Offset by partition; the log's end where no record is as young.

    Raises:
        TopicError: there is no such topic. Fatal.
        BusUnavailableError: retryable; BusRefusedError: fatal.
    """
    async with lone_consumer(options, f"asking for times of {topic}") as consumer:
        found = await start_offsets(consumer, await all_parts(consumer, [topic]), time_ms)
    return {part.partition: offset for part, offset in found.items()}


async def read_range(
    options: Options,
    topic: str,
    partition: int,
    start: int,
    stop: int,
    *,
    read_committed: bool = False,
) -> AsyncIterator[RecordBatch]:
    """Records from `start` up to but not including `stop`, in order, without a group.

    Args:
        options: Client options.
        topic: Topic name.
        partition: Partition number.
        start: First offset; not below the log's first.
        stop: Offset to stop before; one beyond the log's end means its end at the call.
        read_committed: Leave out records of aborted transactions, and wait for open ones.

    Yields:
        Batches of at least one record.

    Raises:
        StateError: `start` is below the log's first offset, its records are expired. Fatal.
        BusUnavailableError: no answer, or no record for the request timeout: retryable.
        TopicError, BusRefusedError: fatal.
    """
    tried = f"reading {topic}[{partition}] from {start}"
    isolation = "read_committed" if read_committed else "read_uncommitted"
    async with lone_consumer(options, tried, isolation_level=isolation) as consumer:
        part = TopicPartition(topic, partition)
        begin, end = (await log_edges(consumer, await all_parts(consumer, [topic])))[part]
        if start < begin:
            raise StateError(
                f"{tried} failed, the log begins at {begin}: what is older is expired; "
                f"begin there, or keep the topic longer"
            )
        if start < min(stop, end):
            consumer.assign([part])
            consumer.seek(part, start)
            patience_s = options["request_timeout_ms"] / 1000
            async for batch in read_assigned(consumer, part, min(stop, end), patience_s):
                yield batch


async def read_one(options: Options, topic: str, partition: int, offset: int) -> RecordBatch | None:
    """The record at an offset as a batch of one; None when the log does not hold it.

    Raises:
        BusUnavailableError: retryable; BusRefusedError, TopicError: fatal.
    """
    try:
        found = [b async for b in read_range(options, topic, partition, offset, offset + 1)]
    except StateError:  # it is below the log's first
        return None
    return found[0] if found and found[0].first == offset else None


async def last_record(
    options: Options, topic: str, partition: int, offset: int
) -> LastRecord | None:
    """What identifies the record at `offset`, to compare a checkpoint with the log.

    Raises:
        BusUnavailableError: retryable; BusRefusedError, TopicError: fatal.
    """
    found = await read_one(options, topic, partition, offset)
    return None if found is None else found.last_record()


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
        try:
            found = await consumer.getmany(part, timeout_ms=_POLL_MS)
        except UnicodeDecodeError:
            expect_any()
            consumer.seek(part, position)
            continue
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
    times = await consumer.offsets_for_times(dict.fromkeys(parts, start))
    # Where no record is as young, the embedded bus answers offset 0 with the time -1.
    found = {part: hit.offset for part, hit in times.items() if hit and hit.timestamp >= 0}
    return {part: found.get(part, ranges[part][1]) for part in parts}
