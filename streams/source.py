"""The stage's source as delivery sees it: the group's offsets, and reads outside the group."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from headrace.schemas.batch import LastRecord, RecordBatch
from headrace.streams.bus import reads
from headrace.streams.transport.stage import StageTransport


class StageSource:
    """Implements delivery's `Log` and `Group` on one stage's transport.

    Args:
        options: Client options of the bus.
        transport: The stage's transport; its connection answers where it can.
        read_committed: Leave out records of aborted transactions, as the transport does.
    """

    def __init__(
        self, options: Mapping[str, Any], transport: StageTransport, *, read_committed: bool = False
    ) -> None:
        self._options = options
        self._read_committed = read_committed
        self._transport = transport

    def read_range(
        self, topic: str, partition: int, start: int, stop: int
    ) -> AsyncIterator[RecordBatch]:
        """Records from `start` up to but not including `stop`, read beside the group."""
        return reads.read_range(
            self._options, topic, partition, start, stop, read_committed=self._read_committed
        )

    async def last_record(self, topic: str, partition: int, offset: int) -> LastRecord | None:
        """What identifies the record at `offset`; None when the log has no such record."""
        return await reads.last_record(self._options, topic, partition, offset)

    async def log_range(self, topic: str, partition: int) -> tuple[int, int]:
        """First offset in the log, and the offset after its last."""
        return await self._transport.log_range((topic, partition))

    def expired(self, topic: str, partition: int) -> int:
        """Offsets that retention took before they were read, as far as the transport noticed."""
        return self._transport.expired.get((topic, partition), 0)

    async def committed(self, topic: str, partition: int) -> int | None:
        """The group's offset, None where there is none."""
        return await self._transport.committed((topic, partition))

    async def commit(self, topic: str, partition: int, offset: int) -> None:
        """Commit under the group's current generation.

        Raises:
            OwnershipLostError: the group has moved on without us.
        """
        await self._transport.commit((topic, partition), offset)
