"""The newest records of a topic, again and again, at a bounded cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from headrace.schemas.batch import RecordBatch
from headrace.streams.bus.connection import all_parts, lone_consumer
from headrace.streams.bus.header_names import expect_any
from headrace.streams.bus.reads import log_edges, to_batch

_POLL_MS = 200
_FETCH_MS = _POLL_MS // 2
"""A fetch that waits for records of other partitions ends well before a look gives up."""

_NOWHERE = -1


async def newest(
    options: Mapping[str, Any], topic: str, *, rows: int, every_s: float, read_committed: bool
) -> AsyncGenerator[list[RecordBatch], None]:
    """What came since the last look, of that the last `rows` records; what is older is passed over.

    The first look finds the last `rows` records that the topic holds.

    Args:
        options: Client options of the bus.
        topic: Topic name.
        rows: Most records of one look, all partitions together; at least one of each.
        every_s: Pause between two looks, seconds.
        read_committed: Leave out records of aborted transactions.

    Yields:
        Batches of one partition each; none where nothing came.

    Raises:
        BusUnavailableError: retryable. TopicError, BusRefusedError: fatal.

    Delivery: none; it is a look from aside, without a group.
    """
    isolation = "read_committed" if read_committed else "read_uncommitted"
    more = {"isolation_level": isolation, "fetch_max_wait_ms": _FETCH_MS}
    async with lone_consumer(dict(options), f"watching {topic}", **more) as bus:
        parts = await all_parts(bus, [topic])
        bus.assign(parts)
        seen = dict.fromkeys(parts, _NOWHERE)
        while True:
            edges = await log_edges(bus, parts)
            for part, (begin, end) in edges.items():
                start = where(seen[part], begin, end, most=max(1, rows // len(parts)))
                # Where it stands there already, seeking would throw away what came meanwhile.
                if start != seen[part]:
                    bus.seek(part, start)
                    seen[part] = start
            yield await _until(bus, seen, {part: end for part, (_, end) in edges.items()})
            await asyncio.sleep(every_s)


def where(seen: int, begin: int, end: int, *, most: int) -> int:
    """The offset from which a look reads, so that it reads no more than `most` records.

    Args:
        seen: Offset after the last one looked at.
        begin: First offset in the log.
        end: Offset after its last; below `seen` where the topic was made anew.
        most: Records of one look.

    Example:
        >>> where(90, 0, 100, most=50), where(10, 0, 100, most=50), where(90, 0, 20, most=50)
        (90, 50, 0)
    """
    return max(begin, end - most, seen if seen <= end else begin)


async def _until(bus: Any, seen: dict[Any, int], ends: Mapping[Any, int]) -> list[RecordBatch]:
    """Records up to these offsets; `seen` moves along."""
    found = []
    while waiting := [part for part, end in ends.items() if seen[part] < end]:
        try:
            records = await bus.getmany(*waiting, timeout_ms=_POLL_MS)
        except UnicodeDecodeError:
            expect_any()
            for part in waiting:
                bus.seek(part, seen[part])
            continue
        if not records:
            break  # an open transaction, or a marker at the end: the next look goes on
        for part, rows in records.items():
            found.append(to_batch(part.topic, part.partition, rows))
            seen[part] = rows[-1].offset + 1
    return found
