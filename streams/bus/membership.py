"""Being told by a consumer group which partitions are ours, and reading none of them with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import (  # type: ignore[import-untyped]
    AIOKafkaConsumer,
    ConsumerRebalanceListener,
    TopicPartition,
)

from headrace.schemas.errors import OwnershipLostError
from headrace.streams.bus.connection import Options, mapped_errors, started

SESSION_MS, HEARTBEAT_MS = 6_000, 2_000
"""A dead member's partitions are free after 6 s, Kafka's least allowed by default."""


class Membership(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """A member's share of one topic; made by `member_of`.

    Attributes:
        partitions: Those that are ours now.
        changed: Set when they have changed.
    """

    def __init__(self, topic: str) -> None:
        self.partitions: frozenset[int] = frozenset()
        self.changed = asyncio.Event()
        self._topic = topic
        self._consumer: Any = None

    async def on_partitions_revoked(self, revoked: Set[Any]) -> None:
        """Told by the group: its members change."""
        self.partitions -= {part.partition for part in revoked}
        self.changed.set()

    async def on_partitions_assigned(self, assigned: Set[Any]) -> None:
        """Told by the group: these are ours."""
        self._consumer.pause(*assigned)
        self.partitions = frozenset(part.partition for part in assigned)
        self.changed.set()

    async def alive(self) -> None:
        """Say that we are at work: a member that says nothing for minutes is put out.

        Raises:
            BusRefusedError: fatal.
        """
        with mapped_errors(f"sharing {self._topic}"):
            await self._consumer.getmany(timeout_ms=0)

    async def commit(self, partition: int, offset: int) -> None:
        """Tell the group, and who looks at its lag, how far a partition is.

        Raises:
            OwnershipLostError, BusUnavailableError: retryable.
        """
        if partition not in self.partitions:
            raise OwnershipLostError(
                f"{self._topic}[{partition}] is another member's now; it goes on"
            )
        with mapped_errors(f"committing {self._topic}[{partition}]"):
            await self._consumer.commit({TopicPartition(self._topic, partition): offset})


@asynccontextmanager
async def member_of(options: Options, group: str, topic: str) -> AsyncIterator[Membership]:
    """Join a group over one topic; its partitions are dealt among all members.

    Raises:
        BusUnavailableError: retryable. BusRefusedError, TopicError: fatal.
    """
    member = Membership(topic)
    member._consumer = AIOKafkaConsumer(
        **options,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=HEARTBEAT_MS,
    )
    member._consumer.subscribe([topic], listener=member)
    async with started(member._consumer, options, f"joining group {group!r}"):
        yield member
