"""Whether a topic is still the log that a replay was planned on, or was made anew under its name.

Recognised as a checkpoint's log is (`delivery/recovery.py`): by a record that cannot have changed.
The last one of each stretch is asked for again behind what was read, so that rows of two logs never
stand in one table.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from headrace.schemas.batch import LastRecord, RecordBatch
from headrace.schemas.errors import StateError
from headrace.streams.replay.ranges import Span

_BACK = (1, 1 << 8, 1 << 16)
"""Offsets behind the last record of a stretch may be markers of transactions, or compacted away."""
_FETCH_BYTES = 1 << 16


class Reads(Protocol):
    """As much of a `LoneReader` as this needs."""

    topic: str

    async def edges(self) -> dict[int, tuple[int, int]]:
        """See `LoneReader`."""

    def read(
        self, partition: int, start: int, stop: int, *, fetch_bytes: int
    ) -> AsyncIterator[RecordBatch]:
        """See `LoneReader`."""


async def last_record(reader: Reads, span: Span) -> LastRecord | None:
    """What identifies the last record of a stretch; None where it has none, or lost it meanwhile.

    Raises:
        BusUnavailableError: retryable.
    """
    for back in _BACK:
        start, found = max(span.start, span.stop - back), None
        try:
            async for batch in reader.read(
                span.partition, start, span.stop, fetch_bytes=_FETCH_BYTES
            ):
                found = batch.last_record()
        except StateError:  # retention goes on while we look
            return None
        if found is not None or start == span.start:
            return found
    return None


async def check_same_log(reader: Reads, partition: int, last: LastRecord) -> None:
    """Refuse to go on where the topic is another log than at first.

    A record that retention or compaction took since tells nothing.

    Raises:
        StateError: another record is at its offset, or the log ends before it. Fatal.
        BusUnavailableError: retryable.
    """
    begin, end = (await reader.edges()).get(partition, (0, 0))
    if last.offset < begin:
        return
    if last.offset < end:
        found = await last_record(reader, Span(partition, last.offset, last.offset + 1))
        if found is None or found == last:
            return
    raise StateError(
        f"{reader.topic}[{partition}] is another log than when the replay was planned: the record "
        f"@{last.offset} is not the one that it was, the topic was made anew; replay it anew"
    )
