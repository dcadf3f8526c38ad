"""Where a consumer group begins."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from aiokafka import TopicPartition  # type: ignore[import-untyped]

from headrace.streams.bus.connection import Options, all_parts, lone_consumer
from headrace.streams.bus.ends import log_ends
from headrace.streams.bus.reads import Start, start_offsets

Partition = tuple[str, int]


async def first_positions(
    options: Options,
    group: str,
    topics: Sequence[str],
    start: Start = "latest",
    *,
    known: Callable[[list[Partition]], Awaitable[dict[Partition, int]]] | None = None,
) -> dict[Partition, int]:
    """Commit where a group starts, for partitions on which it has no offset in the log yet.

    An offset behind the log's end is one of another log under the same name, and counts as none.

    To be called before a member joins: a group with members refuses offsets from outside, and
    then has its own.

    Args:
        options: Client options.
        group: Consumer group.
        topics: Topics it will read.
        start: ``latest``, ``earliest``, or a broker time in milliseconds since 1970.
        known: Asked for the partitions without one; what it answers goes before `start`.

    Returns:
        The offsets that were committed; empty when every partition had one.

    Raises:
        OwnershipLostError: members joined meanwhile and some partition has no offset: retryable.
        BusUnavailableError: retryable; BusRefusedError, TopicError: fatal.
    """
    tried = f"setting where group {group!r} starts"
    async with lone_consumer(options, tried, group_id=group) as consumer:
        parts = await all_parts(consumer, topics)
        consumer.assign(parts)
        # Nothing is read here, and a fetch that waits for records holds up what is asked.
        consumer.pause(*parts)
        committed, ends = await asyncio.gather(
            asyncio.gather(*map(consumer.committed, parts)), log_ends(consumer, parts)
        )
        new = [
            part
            for part, offset in zip(parts, committed, strict=True)
            if offset is None or offset > ends[part]
        ]
        if not new:
            return {}
        offsets = await start_offsets(consumer, new, start)
        if known is not None:
            better = await known([(part.topic, part.partition) for part in new])
            offsets |= {TopicPartition(*place): offset for place, offset in better.items()}
        await consumer.commit(offsets)
    return {(part.topic, part.partition): offset for part, offset in offsets.items()}
