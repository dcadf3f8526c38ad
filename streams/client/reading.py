"""At-least-once reading of one topic: repeats dropped, commits behind the caller's work."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from headrace.schemas.batch import RecordBatch
from headrace.schemas.errors import RetryableError, Source
from headrace.streams.client.bus import BusReader, Position, Start
from headrace.streams.client.marks import Marks, Verdict

log = logging.getLogger(__name__)

T = TypeVar("T")


class Content(Protocol[T]):
    """What the records of a topic are."""

    tail_rows: int
    """Records before a committed offset to read again where its note is lost."""

    def read(self, records: RecordBatch) -> Sequence[T | None]:
        """Each record of the batch, None where it is not what the topic should hold."""

    def arrive(self, rows: Sequence[tuple[T, bool]], now_ms: float) -> int:
        """Told of what will be delivered, and whether each item supersedes another.

        Returns:
            How many of them are overdue.
        """

    def marks(self) -> Marks[T]:
        """Marks of a partition of which nothing was seen."""


@dataclass(slots=True)
class Counts:
    """What became of the records read so far.

    Attributes:
        delivered: Handed to the caller, amendments and overdue ones too.
        repeats: Dropped, since they were seen before.
        superseded: Of those delivered, amendments.
        overdue: Of those delivered, older than the deadline.
        invalid: Not what the topic should hold; skipped, with a line in the log each.
        expired: Deleted by retention before they were read.
        commits: Commits that succeeded.
    """

    delivered: int = 0
    repeats: int = 0
    superseded: int = 0
    overdue: int = 0
    invalid: int = 0
    expired: int = 0
    commits: int = 0


@dataclass(slots=True)
class Parcel(Generic[T]):
    """One batch of one partition on its way to the caller.

    Attributes:
        partition: Partition of the topic.
        tenure: Which assignment it was read under.
        offsets: Offset of each item in the topic.
        items: What is delivered, possibly nothing.
        next: Offset after the batch.
    """

    partition: int
    tenure: int
    offsets: list[int]
    items: list[T]
    next: int


@dataclass(slots=True)
class Held(Generic[T]):
    """One partition that is ours.

    Attributes:
        tenure: Number of the assignment, so that items of an earlier one are recognised.
        seen: Marks after everything read.
        done: Marks after everything the caller has finished.
        position: Offset after everything the caller has finished.
        committed: Position of the last commit; -1 before the first.
        silent_until: Records below this are only remembered, not delivered.
    """

    tenure: int
    seen: Marks[T]
    done: Marks[T]
    position: int
    committed: int
    silent_until: int


@dataclass(slots=True)
class Ledger(Generic[T]):
    """Partitions held, what was read of them, and what may be committed.

    The bus calls `assigned` and `revoked`; the reading loop calls the rest.
    """

    reader: BusReader
    content: Content[T]
    counts: Counts = field(default_factory=Counts)
    held: dict[int, Held[T]] = field(default_factory=dict)
    queue: deque[Parcel[T]] = field(default_factory=deque)
    tenures: int = 0

    async def assigned(self, starts: Mapping[int, Start]) -> Mapping[int, int]:
        """See `Owner.assigned`."""
        self.tenures += 1
        return {partition: self._begin(partition, start) for partition, start in starts.items()}

    async def revoked(self, partitions: Set[int]) -> None:
        """Commit what the caller finished, forget the rest: the next owner reads it again."""
        await self.commit()
        for partition in partitions:
            self.held.pop(partition, None)
        self.queue = deque(p for p in self.queue if p.partition not in partitions)

    def take_in(self, records: RecordBatch, now_ms: float) -> None:
        """Drop repeats from a batch just read, and queue the rest."""
        held = self.held.get(records.partition)
        if held is None:
            return
        offsets = records.offsets.tolist()
        kept: list[tuple[T, bool]] = []
        kept_offsets: list[int] = []
        for offset, item in zip(offsets, self.content.read(records), strict=True):
            if item is None:
                self._invalid(records, offset)
                continue
            verdict = held.seen.accept(item)
            if verdict is Verdict.ANEW:
                log.warning("record %s begins another source log", _at(records, offset))
            if offset < held.silent_until:
                held.done.accept(item)
            elif verdict is Verdict.REPEAT:
                self.counts.repeats += 1
            else:
                kept.append((item, verdict is Verdict.SUPERSEDES))
                kept_offsets.append(offset)
        self.counts.overdue += self.content.arrive(kept, now_ms)
        self.counts.superseded += sum(supersedes for _, supersedes in kept)
        items = [item for item, _ in kept]
        self.queue.append(Parcel(records.partition, held.tenure, kept_offsets, items, records.next))

    def owns(self, parcel: Parcel[T]) -> bool:
        """Whether the assignment a parcel was read under still holds."""
        held = self.held.get(parcel.partition)
        return held is not None and held.tenure == parcel.tenure

    def finish(self, parcel: Parcel[T], start: int, stop: int) -> None:
        """The caller is done with items `start` to `stop` of a parcel."""
        if not self.owns(parcel):
            return
        held = self.held[parcel.partition]
        for item in parcel.items[start:stop]:
            held.done.accept(item)
        whole = stop == len(parcel.items)
        position = parcel.next if whole else parcel.offsets[stop - 1] + 1
        held.position = max(held.position, position)

    async def commit(self) -> bool:
        """Commit what the caller finished; whether there is nothing left to commit.

        A commit that fails costs repeats after a restart, never a loss: the next one covers it.
        """
        due = {p: h for p, h in self.held.items() if h.position != h.committed}
        positions = {p: Position(h.position, h.done.dump()) for p, h in due.items()}
        if not positions:
            return True
        try:
            await self.reader.commit(positions)
        except RetryableError as error:
            log.warning("committing %d partitions failed: %s", len(positions), error)
            return False
        for partition, held in due.items():
            held.committed = positions[partition].offset
        self.counts.commits += 1
        return True

    def _begin(self, partition: int, start: Start) -> int:
        seen, done = self.content.marks(), self.content.marks()
        position = start.position.offset
        if start.expired:
            self.counts.expired += start.expired
            log.warning("partition %d: %d records expired unread", partition, start.expired)
        known = start.fresh or (seen.load(start.position.note) and done.load(start.position.note))
        read_from = position if known else max(start.begin, position - self.content.tail_rows)
        committed = -1 if start.fresh or start.expired else position
        self.held[partition] = Held(self.tenures, seen, done, position, committed, position)
        return read_from

    def _invalid(self, records: RecordBatch, offset: int) -> None:
        self.counts.invalid += 1
        log.warning(
            "record %s is not what its topic should hold; it is skipped", _at(records, offset)
        )


def _at(records: RecordBatch, offset: int) -> Source:
    return Source(records.topic, records.partition, offset)
