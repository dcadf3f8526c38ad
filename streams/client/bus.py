"""What Producer and Consumer need of a bus; `kafka_bus` is the real one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple, Protocol

from headrace.schemas.batch import Headers, RecordBatch


class Position(NamedTuple):
    """Where a group is in one partition.

    Attributes:
        offset: The next record to read.
        note: Text that was committed together with it; empty where the bus keeps none.
    """

    offset: int
    note: str


class Start(NamedTuple):
    """Where a partition that was just assigned begins.

    Attributes:
        position: What the group committed, or where a group that never read begins.
        fresh: The group had committed nothing.
        begin: First offset the log still has.
        expired: Records between the committed offset and the log's begin, which nobody can read.
    """

    position: Position
    fresh: bool
    begin: int
    expired: int = 0


class Owner(Protocol):
    """Who reads: told of every change of its partitions."""

    async def assigned(self, starts: Mapping[int, Start]) -> Mapping[int, int]:
        """Before the first record of these partitions; the offsets to read them from."""

    async def revoked(self, partitions: Set[int]) -> None:
        """They are about to belong to somebody else: a commit still succeeds in here."""


class BusReader(Protocol):
    """Reads one topic, alone or as a member of a group."""

    async def start(self, owner: Owner) -> None:
        """Connect and join.

        Raises:
            BusUnavailableError: retryable. BusRefusedError, TopicError: fatal.
        """

    async def fetch(self, *, max_rows: int, timeout_s: float) -> list[RecordBatch]:
        """At most `max_rows` records, after at most `timeout_s` when there are none."""

    async def commit(self, positions: Mapping[int, Position]) -> None:
        """Commit positions and notes, each pair as one.

        Raises:
            RetryableError: the bus is away, or the partitions belong to somebody else by now.
        """

    async def positions(self) -> dict[int, int]:
        """The offset that is read next from each partition held now."""

    async def ends(self) -> dict[int, int]:
        """The offset after the last record of each partition held now."""

    async def stop(self) -> None:
        """Leave the group and disconnect."""


class BusWriter(Protocol):
    """Writes to one topic."""

    idempotent: bool
    """Whether a repeat inside the client library cannot double a record."""

    async def start(self) -> int:
        """Connect; the topic's partition count.

        Raises:
            BusUnavailableError: retryable. BusRefusedError, TopicError: fatal.
        """

    async def write(
        self,
        partition: int,
        keys: Sequence[bytes | None],
        values: Sequence[bytes],
        headers: Sequence[Headers],
    ) -> list[int]:
        """Write the records in order; the offset of each once all replicas have them.

        An offset is -1 where the bus recognised a repeat and no longer knows it.

        Raises:
            RetryableError: nothing, or a first part of the records, may have been written.
        """

    async def stop(self) -> None:
        """Disconnect."""


class Bus(Protocol):
    """Makes readers and writers."""

    def reader(self, topic: str, *, group: str | None, start: str) -> BusReader:
        """A reader of one topic; without a group it reads every partition and commits nothing."""

    def writer(self, topic: str) -> BusWriter:
        """A writer to one topic."""
