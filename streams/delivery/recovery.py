"""What a takeover starts from: the checkpoint, or the newest snapshot that may be used."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Protocol

from headrace.feature_store.snapshots import Snapshots
from headrace.schemas.batch import LastRecord
from headrace.schemas.errors import TopicError
from headrace.schemas.numerics import numerics_fingerprint
from headrace.schemas.protocols import Agent, Snapshot

log = logging.getLogger("headrace.delivery")

FORMAT = 1
"""Version of the checkpoint's own format."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """Why a state must not be used.

    Attributes:
        reason: In words.
        another_log: The topic was made anew: nothing of the state is about this log.
    """

    reason: str
    another_log: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What a takeover starts from.

    Attributes:
        state: Checkpoint or snapshot; None: begin with nothing.
        stored: It is the checkpoint that the store has.
        epoch: How many logs of this name there were before this one, as far as is known.
        another_log: The checkpoint was set aside because it is of another log.
    """

    state: Snapshot | None
    stored: bool
    epoch: int
    another_log: bool = False


class LastRecords(Protocol):
    """Tells one log from another of its name."""

    async def last_record(self, topic: str, partition: int, offset: int) -> LastRecord | None:
        """What identifies the record at `offset`; None when the log has no such record."""


class Stage(Protocol):
    """What of a stage tells whether a state may be used: of a live one, or of one replayed."""

    @property
    def agent(self) -> Agent:
        """Its logic."""

    @property
    def partitions(self) -> int:
        """Partition count of the source topic."""

    @property
    def source(self) -> LastRecords:
        """Reads of the source topic."""

    @property
    def snapshots(self) -> Snapshots | None:
        """Where a lost checkpoint is rebuilt from; None: from the log alone."""

    def key(self, topic: str, partition: int) -> str:
        """Checkpoint key of one source partition."""


class Recovery:
    """Finds what a takeover, or a replay, of one partition starts from.

    Args:
        stage: The stage.
        topic: Source topic.
        partition: Source partition.
        begin: First offset in the log.
        end: Offset after the log's last record.
    """

    def __init__(self, stage: Stage, topic: str, partition: int, *, begin: int, end: int) -> None:
        self._stage = stage
        self._topic = topic
        self._partition = partition
        self._begin = begin
        self._end = end
        self._epoch = 0
        self._another_log = False

    async def find(self, checkpoint: Snapshot | None, committed: int | None) -> Found:
        """The checkpoint where it is whole and of this log, else the nearest snapshot.

        A snapshot also goes before a checkpoint that the log does not reach any more, or that lies
        further behind the group's offset.

        Args:
            checkpoint: What the store has.
            committed: The group's offset O: a snapshot beyond it would leave out what lies between.

        Raises:
            TopicError: it was made with another partition count. Fatal.
            StoreUnavailableError: snapshots cannot be read. Retryable: without them the state might
                be rebuilt from less. StoreRefusedError: fatal.
        """
        found = checkpoint if await self._usable("checkpoint", checkpoint) else None
        another_log = self._another_log
        position = found.meta.position if found else -1
        wanted = max(committed or 0, self._begin)
        if committed is not None and position < wanted:
            nearer = await self.nearest(position, committed)
            if nearer is not None:
                log.warning(
                    "state of %s[%d] is rebuilt from the snapshot at offset %d",
                    self._topic, self._partition, nearer.meta.position,
                )  # fmt: skip
                return Found(nearer, stored=False, epoch=max(self._epoch, nearer.meta.epoch))
        return Found(found, found is not None, self._epoch, another_log)

    async def nearest(self, after: int, upto: int) -> Snapshot | None:
        """The usable snapshot with the highest position in (after, upto], the newest of several.

        Raises:
            TopicError: it was made with another partition count. Fatal.
            StoreUnavailableError: retryable; StoreRefusedError: fatal.
        """
        snapshots = self._stage.snapshots
        if snapshots is None:
            return None
        key = self._stage.key(self._topic, self._partition)
        kept = await asyncio.to_thread(snapshots.stored, key)
        kept = [one for one in kept if after < one.position <= upto]
        for one in sorted(kept, key=lambda one: one.position, reverse=True):
            try:
                snapshot = await asyncio.to_thread(snapshots.read, one)
            except ValueError as error:
                log.warning("snapshot %r is passed over: %s", one.name, error)
                continue
            if await self._usable(f"snapshot {one.name!r}", snapshot):
                return snapshot
        return None

    async def _usable(self, what: str, found: Snapshot | None) -> bool:
        """Whether a state may be used; what tells of another log also raises the epoch."""
        if found is None:
            return False
        foreign = await self._foreign(found)
        if foreign is None:
            if found.meta.numerics != numerics_fingerprint():
                log.warning(
                    "%s of %s[%d] was made with other package versions or on another CPU: "
                    "features are comparable within tolerance only",
                    what, self._topic, self._partition,
                )  # fmt: skip
            self._epoch = max(self._epoch, found.meta.epoch)
            return True
        self._epoch = max(self._epoch, found.meta.epoch + foreign.another_log)
        self._another_log |= foreign.another_log
        log.warning(
            "%s of %s[%d] is set aside: %s", what, self._topic, self._partition, foreign.reason
        )
        return False

    async def _foreign(self, found: Snapshot) -> Foreign | None:
        """Why this state must not be used; None when it may."""
        meta = found.meta
        if meta.partitions != self._stage.partitions:
            raise TopicError(
                f"topic {self._topic!r} has {self._stage.partitions} partitions, its checkpoint "
                f"was made with {meta.partitions}; restore that count, or give the pipeline a new "
                f"name"
            )
        if meta.epoch < self._epoch:
            return Foreign("it is of an earlier log of this name")
        if meta.position > self._end:
            return Foreign(
                f"it ends at offset {meta.position}, the log at {self._end}: this is another log",
                another_log=True,
            )
        if meta.last is not None and meta.last.offset >= self._begin:
            source = self._stage.source
            last = await source.last_record(self._topic, self._partition, meta.last.offset)
            if last != meta.last:
                return Foreign(
                    f"the record at offset {meta.last.offset} is another one: this is another log",
                    another_log=True,
                )
        if meta.format != FORMAT:
            return Foreign(f"its format is {meta.format}, expected {FORMAT}")
        if meta.layout != self._stage.agent.layout:
            return Foreign("the pipeline's features have changed since it was written")
        return None
