"""A bus in memory, with groups, rebalances and commits; tests/contract/client uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from headrace.schemas.batch import Headers, RecordBatch
from headrace.schemas.errors import BusUnavailableError
from headrace.streams.client.bus import Owner, Position, Start

Stored = tuple[bytes | None, bytes, Headers]


@dataclass
class MemoryTopic:
    partitions: list[list[Stored]]
    begin: dict[int, int] = field(default_factory=dict)


class MemoryBus:
    """One process, everything at once; `keeps_notes` false forgets notes, as the embedded bus."""

    def __init__(self, *, keeps_notes: bool = True) -> None:
        self.topics: dict[str, MemoryTopic] = {}
        self.committed: dict[tuple[str, str, int], Position] = {}
        self.members: dict[tuple[str, str], list[MemoryReader]] = {}
        self.keeps_notes = keeps_notes
        self.changed = asyncio.Condition()
        self.failing_writes = 0
        self.failing_commits = 0
        self.gate: asyncio.Event | None = None
        self.requests: list[int] = []

    def create(self, topic: str, partitions: int) -> None:
        self.topics[topic] = MemoryTopic([[] for _ in range(partitions)])

    def reader(self, topic: str, *, group: str | None, start: str) -> MemoryReader:
        return MemoryReader(self, topic, group, start)

    def writer(self, topic: str) -> MemoryWriter:
        return MemoryWriter(self, topic)

    async def append(self, topic: str, partition: int, rows: Sequence[Stored]) -> int:
        log = self.topics[topic].partitions[partition]
        first = len(log)
        log.extend(rows)
        async with self.changed:
            self.changed.notify_all()
        return first

    async def rebalance(self, topic: str, group: str, members: list[MemoryReader]) -> None:
        """Everybody stops; then the partitions are dealt anew."""
        for member in self.members.get((topic, group), []):
            await member.take_away()
        self.members[topic, group] = members
        count = len(self.topics[topic].partitions)
        for number, member in enumerate(members):
            await member.give(range(number, count, len(members)))


class MemoryReader:
    def __init__(self, bus: MemoryBus, topic: str, group: str | None, start: str) -> None:
        self.bus, self.topic, self.group, self.begin_at = bus, topic, group, start
        self.owner: Owner | None = None
        self.at: dict[int, int] = {}

    async def start(self, owner: Owner) -> None:
        self.owner = owner
        if self.group is None:
            await self.give(range(len(self.bus.topics[self.topic].partitions)))
        else:
            old = self.bus.members.get((self.topic, self.group), [])
            await self.bus.rebalance(self.topic, self.group, [*old, self])

    async def give(self, partitions: Sequence[int]) -> None:
        starts = {partition: self._start(partition) for partition in partitions}
        self.at = dict(await self.owner.assigned(starts))

    async def take_away(self) -> None:
        await self.owner.revoked(frozenset(self.at))
        self.at = {}

    def _start(self, partition: int) -> Start:
        log = self.bus.topics[self.topic]
        begin = log.begin.get(partition, 0)
        held = self.bus.committed.get((self.topic, self.group or "", partition))
        if held is None:
            end = len(log.partitions[partition])
            first = end if self.begin_at == "latest" else begin
            return Start(Position(first, ""), fresh=True, begin=begin)
        expired = max(0, begin - held.offset)
        return Start(Position(max(held.offset, begin), held.note), False, begin, expired)

    async def fetch(self, *, max_rows: int, timeout_s: float) -> list[RecordBatch]:
        async with self.bus.changed:
            try:
                async with asyncio.timeout(timeout_s):
                    await self.bus.changed.wait_for(self._behind)
            except TimeoutError:
                return []
        got = []
        for partition in sorted(self.at):
            records = self._cut(partition, max_rows)
            if records is not None:
                got.append(records)
        return got

    def _behind(self) -> bool:
        log = self.bus.topics[self.topic].partitions
        return any(len(log[p]) > at for p, at in self.at.items())

    def _cut(self, partition: int, max_rows: int) -> RecordBatch | None:
        at = self.at[partition]
        rows = self.bus.topics[self.topic].partitions[partition][at : at + max_rows]
        if not rows:
            return None
        self.at[partition] = at + len(rows)
        return RecordBatch(
            self.topic,
            partition,
            np.arange(at, at + len(rows)),
            np.full(len(rows), 1_000, np.int64),
            [row[0] for row in rows],
            [row[1] for row in rows],
            [row[2] for row in rows],
        )

    async def commit(self, positions: Mapping[int, Position]) -> None:
        if self.bus.failing_commits:
            self.bus.failing_commits -= 1
            raise BusUnavailableError("committing failed; try again")
        for partition, position in positions.items():
            note = position.note if self.bus.keeps_notes else ""
            place = (self.topic, self.group or "", partition)
            self.bus.committed[place] = Position(position.offset, note)

    async def positions(self) -> dict[int, int]:
        return dict(self.at)

    async def ends(self) -> dict[int, int]:
        log = self.bus.topics[self.topic].partitions
        return {partition: len(log[partition]) for partition in self.at}

    async def stop(self) -> None:
        self.at = {}
        left = [
            m for m in self.bus.members.get((self.topic, self.group or ""), []) if m is not self
        ]
        if self.group is not None:
            await self.bus.rebalance(self.topic, self.group, left)


class MemoryWriter:
    idempotent = False

    def __init__(self, bus: MemoryBus, topic: str) -> None:
        self.bus, self.topic = bus, topic
        self.stopped = False

    async def start(self) -> int:
        return len(self.bus.topics[self.topic].partitions)

    async def write(
        self,
        partition: int,
        keys: Sequence[bytes | None],
        values: Sequence[bytes],
        headers: Sequence[Headers],
    ) -> list[int]:
        if self.bus.gate is not None:
            await self.bus.gate.wait()
        if self.bus.failing_writes:
            self.bus.failing_writes -= 1
            raise BusUnavailableError("writing failed; try again", retry_after_s=0.001)
        self.bus.requests.append(len(values))
        rows = list(zip(keys, values, headers, strict=True))
        first = await self.bus.append(self.topic, partition, rows)
        return list(range(first, first + len(rows)))

    async def stop(self) -> None:
        self.stopped = True
