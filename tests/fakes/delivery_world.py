"""A log, a group, a publisher and an agent in memory, with named points at which to crash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from headrace.schemas.batch import LastRecord, RecordBatch
from headrace.schemas.errors import OwnershipLostError, StateError
from headrace.schemas.protocols import Effects, Fields, OnlineRows, Output

TOPIC = "source"


class Crash(BaseException):
    """The process is gone: nothing after this point happens."""


def records_of(values: Sequence[bytes], start: int = 0) -> RecordBatch:
    """Records of consecutive offsets from `start`."""
    offsets = np.arange(start, start + len(values), dtype=np.int64)
    return RecordBatch(
        TOPIC, 0, offsets, offsets * 10, [b"k"] * len(values), [bytes(v) for v in values]
    )


@dataclass
class MemoryLog:
    """One partition's log; `begin` rises when retention deletes."""

    values: list[bytes]
    begin: int = 0

    async def read_range(
        self, topic: str, partition: int, start: int, stop: int
    ) -> AsyncIterator[RecordBatch]:
        for at in range(start, min(stop, len(self.values)), 3):
            if at < self.begin:
                raise StateError(f"the log begins at {self.begin}, {at} is expired")
            yield records_of(self.values[at : min(at + 3, stop)], at)

    async def last_record(self, topic: str, partition: int, offset: int) -> LastRecord | None:
        if not self.begin <= offset < len(self.values):
            return None
        return records_of([self.values[offset]], offset).last_record()

    async def log_range(self, topic: str, partition: int) -> tuple[int, int]:
        return self.begin, len(self.values)

    def expired(self, topic: str, partition: int) -> int:
        return self.begin


@dataclass
class MemoryGroup:
    """The group's offset, and a generation that only the current member knows."""

    offset: int | None = 0
    generation: int = 0


@dataclass
class Member:
    """One worker's membership in the group."""

    group: MemoryGroup
    generation: int

    async def committed(self, topic: str, partition: int) -> int | None:
        return self.group.offset

    async def commit(self, topic: str, partition: int, offset: int) -> None:
        if self.generation != self.group.generation:
            raise OwnershipLostError("the group has moved on")
        self.group.offset = offset


@dataclass
class MemoryTopic:
    """What was published, in order; `crash` may strike before or after it is."""

    point: Callable[[str], None]
    published: list[bytes] = field(default_factory=list)

    async def publish(self, outputs: Sequence[Output]) -> None:
        self.point("before publish")
        for output in outputs:
            self.published += output.values
        self.point("after publish")
        await asyncio.sleep(0)


class Fold:
    """State of the agent below: a running count and checksum, so that order and repeats show."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0

    def load(self, fields: Fields) -> None:
        for name, value in fields:
            setattr(self, name.decode(), int(value))

    def dump(self) -> Fields:
        return [(b"count", str(self.count).encode()), (b"sum", str(self.sum).encode())]

    def online(self) -> list[OnlineRows]:
        return []


@dataclass
class FoldDelta:
    """The state after a batch."""

    state: Fold
    count: int
    sum: int

    def changed(self) -> Fields:
        return [(b"count", str(self.count).encode()), (b"sum", str(self.sum).encode())]

    def dropped(self) -> Iterable[bytes]:
        return []

    def fold(self) -> None:
        self.state.count, self.state.sum = self.count, self.sum


class FoldAgent:
    """One output per record: offset, value and the fold up to and including it.

    A record of value ``!`` raises: it is poison.
    """

    stage = "fold"
    layout = "fold-1"

    def new_state(self, topic: str, partition: int) -> Fold:
        return Fold()

    async def process(self, state: Fold, records: RecordBatch, *, rebuilt: bool) -> Effects:
        count, total, values = state.count, state.sum, []
        for offset, value in zip(records.offsets.tolist(), records.values, strict=True):
            if value == b"!":
                raise ValueError("poison")
            count += 1
            total = (total * 31 + (value or b"\0")[0]) % 1_000_003
            values.append(b"%d %s %d %d" % (offset, value, count, total))
        await asyncio.sleep(0)
        delta = FoldDelta(state, count, total)
        outputs = [Output("out", 0, None, values)]
        return Effects(outputs, [], delta, {"in": len(values), "out": len(values)})

    def dead(self, records: RecordBatch, row: int, code: str, state: Fold) -> Effects:
        values = [b"%d dead %s" % (records.offsets[row], code.encode())]
        delta = FoldDelta(state, state.count, state.sum)
        return Effects([Output("dead", 0, None, values)], [], delta, {"in": 1, "dead": 1})


def expected(values: Sequence[bytes]) -> list[bytes]:
    """What a fault-free run publishes."""
    count, total, out = 0, 0, []
    for offset, value in enumerate(values):
        if value == b"!":
            out.append(b"%d dead record.failed" % offset)
            continue
        count += 1
        total = (total * 31 + (value or b"\0")[0]) % 1_000_003
        out.append(b"%d %s %d %d" % (offset, value, count, total))
    return out
