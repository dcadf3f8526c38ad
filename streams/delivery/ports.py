"""What delivery needs of the world: batches, a publisher, the log, the group, the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.feature_store.store import Store
from headrace.schemas.batch import LastRecord, RecordBatch
from headrace.schemas.protocols import Agent, Output
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

    def key(self, topic: str, partition: int) -> str:
        """Checkpoint key of one source partition."""
        return f"{self.agent.stage}/{topic}/{partition}"
