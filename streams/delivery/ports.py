"""What delivery needs of the world: batches, a publisher, the log, the group, the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.feature_store.snapshots import Snapshots
from headrace.feature_store.store import Store
from headrace.schemas.batch import LastRecord, RecordBatch
from headrace.schemas.protocols import Agent, Effects, Output
from headrace.streams.delivery.counters import Counters
from headrace.streams.delivery.share import DeadLetterShare


class Publisher(Protocol):
    """Publishes outputs and waits for their acknowledgement."""

    async def publish(self, outputs: Sequence[Output]) -> None:
        """Return when every record is acknowledged by all in-sync replicas.

        Delivery: at least once; a raised error leaves it open which records arrived.

        Raises:
            BusUnavailableError: retryable; BusRefusedError, TopicError: fatal.
        """


class Outlet(Protocol):
    """Where one partition's lane makes its outputs durable."""

    transactional: bool
    """The source offset goes with the outputs: the group's offset is then the whole truth."""

    async def fence(self) -> None:
        """Shut out whoever published for this partition before, and decide what they left open.

        To be called before the group's offset is read: what is published from now on counts only
        as long as nobody else fences the partition.

        Raises:
            OwnershipLostError: the group has moved on without us. Retryable.
            BusUnavailableError: retryable; BusRefusedError: fatal.
        """

    async def publish(self, outputs: Sequence[Output], upto: int) -> None:
        """Make outputs durable; where transactional, the group's offset `upto` with them or none.

        Raises:
            OwnershipLostError: another worker has the partition, or nobody can say what became of
                the outputs; taking the partition over again tells.
            BusUnavailableError: nothing is visible where transactional; the same call may be
                repeated. Retryable.
            BusRefusedError, TopicError: fatal.
        """

    async def close(self) -> None:
        """Let go of connections; what is open is left to the next owner's `fence`."""


class Log(Protocol):
    """Reads of source partitions outside the consumer group."""

    def read_range(
        self, topic: str, partition: int, start: int, stop: int
    ) -> AsyncIterator[RecordBatch]:
        """Records from `start` up to but not including `stop`, in order."""

    async def last_record(self, topic: str, partition: int, offset: int) -> LastRecord | None:
        """What identifies the record at `offset`; None when the log has no such record."""

    async def log_range(self, topic: str, partition: int) -> tuple[int, int]:
        """First offset in the log, and the offset after its last."""

    def expired(self, topic: str, partition: int) -> int:
        """Offsets that retention took before they were read, as far as the transport noticed."""


class Group(Protocol):
    """This stage's consumer group."""

    async def committed(self, topic: str, partition: int) -> int | None:
        """The group's offset O, None where there is none."""

    async def commit(self, topic: str, partition: int, offset: int) -> None:
        """Commit under the group's current generation.

        Raises:
            OwnershipLostError: the group has moved on without us.
        """


class Delivered(Protocol):
    """A batch handed over by the transport, and the duty to acknowledge it."""

    @property
    def records(self) -> RecordBatch:
        """Its records."""

    def done(self) -> None:
        """Everything the batch causes is durable: its offsets may be committed."""


class Observer(Protocol):
    """Who watches batches go through; it never waits and never fails."""

    def now_ms(self) -> float:
        """Wall clock, milliseconds since 1970."""

    def observe(
        self, part: RecordBatch, effects: Effects, *, begun_ms: float, readable_ms: float
    ) -> None:
        """Told of each batch that became durable.

        Args:
            part: Its records.
            effects: What it did.
            begun_ms: When it was taken in hand.
            readable_ms: When its outputs were acknowledged and its online rows written.
        """


@dataclass(frozen=True, slots=True)
class StagePorts:
    """One stage's logic and everything around it.

    Attributes:
        agent: The stage's logic.
        partitions: Partition count of the source topic.
        ttl_s: TTL of each view's online rows, seconds.
        store: Checkpoints and online rows.
        source: Reads of the source topic.
        group: The stage's consumer group.
        publisher: Where outputs go.
        counters: The stage's totals.
        share: The stage's dead-letter limit.
        central: Topics whose records may travel upstream; their bytes are counted.
        transactions: Opens a source partition's transactional outlet; None is at least once.
        snapshots: Where a lost checkpoint is rebuilt from; None: from the log alone.
        observer: Who watches; None: nobody.
    """

    agent: Agent
    partitions: int
    ttl_s: Mapping[str, float]
    store: Store
    source: Log
    group: Group
    publisher: Publisher
    counters: Counters
    share: DeadLetterShare
    central: frozenset[str] = frozenset()
    transactions: Callable[[str, int], Outlet] | None = None
    snapshots: Snapshots | None = None
    observer: Observer | None = None

    def key(self, topic: str, partition: int) -> str:
        """Checkpoint key of one source partition."""
        return checkpoint_key(self.agent.stage, topic, partition)


def checkpoint_key(stage: str, topic: str, partition: int) -> str:
    """Under which a stage's state of one source partition is kept, in store and snapshots."""
    return f"{stage}/{topic}/{partition}"
