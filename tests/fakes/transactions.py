"""A bus with transactions in memory: one source partition, one output log, the group's offset."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fakes.delivery_world import MemoryGroup

from headrace.schemas.errors import BusUnavailableError, OwnershipLostError
from headrace.schemas.protocols import Output

Trouble = Literal["none", "aborted", "unknown, committed", "unknown, aborted"]


@dataclass
class MemoryBus:
    """What is visible to readers of committed records, and who may still write.

    Attributes:
        group: The group's offset.
        visible: Committed values, in order.
        epoch: The newest epoch handed out.
        troubles: What befalls the next transactions, in order; none when it is used up.
    """

    group: MemoryGroup
    visible: list[bytes] = field(default_factory=list)
    epoch: int = 0
    troubles: list[Trouble] = field(default_factory=list)


class MemoryOutlet:
    """Implements `Outlet` on a `MemoryBus`; `point` may crash around and in a transaction."""

    transactional = True

    def __init__(self, bus: MemoryBus, point: Callable[[str], None] = lambda name: None) -> None:
        self.bus = bus
        self.point = point
        self._epoch = -1

    async def fence(self) -> None:
        await asyncio.sleep(0)
        self.bus.epoch += 1
        self._epoch = self.bus.epoch

    async def publish(self, outputs: Sequence[Output], upto: int) -> None:
        self.point("before transaction")
        self._check()
        values = [value for output in outputs for value in output.values]
        await self.offsets(upto)
        await self.commit()
        self.point("in transaction")
        self._check()
        trouble = self.bus.troubles.pop(0) if self.bus.troubles else "none"
        if trouble == "aborted":
            raise BusUnavailableError("aborted, it is tried again", retry_after_s=0.0)
        if trouble != "unknown, aborted":
            self.bus.visible += values
            self.bus.group.offset = upto
        if trouble != "none":
            await self.close()
            raise OwnershipLostError("the outcome is not known")
        self.point("after transaction")
        await asyncio.sleep(0)

    async def offsets(self, upto: int) -> None:
        """The moment at which the source offset joins the transaction."""
        await asyncio.sleep(0)

    async def commit(self) -> None:
        """The moment at which everything was sent."""

    def _check(self) -> None:
        if self._epoch != self.bus.epoch:
            raise OwnershipLostError("another epoch was opened")

    async def close(self) -> None:
        self._epoch = -1


class OffsetsOutside(MemoryOutlet):
    """Known bad: the source offset moves before, and whether or not, the transaction commits."""

    async def offsets(self, upto: int) -> None:
        self.bus.group.offset = upto


class NeverFenced(MemoryOutlet):
    """Known bad: a former owner's transactions still count."""

    def _check(self) -> None:
        pass
