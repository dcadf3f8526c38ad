"""A place in a consumer group, without a stage around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from headrace.streams.transport.group_offsets import Member
from headrace.streams.transport.stable_offsets import offset_note, stable_offset


class GroupMember:
    """Implements `Membership`: joins on `join`, and knows its place for good, as a zombie does.

    Args:
        options: Client options of the bus.
        group: Consumer group.
        topic: What the group reads.
    """

    def __init__(self, options: Mapping[str, Any], group: str, topic: str) -> None:
        self._options, self._group, self._topic = dict(options), group, topic
        self._consumer: Any = None
        self.member = Member("", 0)

    async def join(self) -> None:
        """Be the group's only live member: whoever was before has left it or is left behind."""
        self._consumer = AIOKafkaConsumer(
            **self._options, group_id=self._group, enable_auto_commit=False
        )
        self._consumer.subscribe([self._topic])
        await self._consumer.start()
        while not self._consumer.assignment():
            await self._consumer.getmany(timeout_ms=20)
        coordinator = self._consumer._coordinator
        self.member = Member(coordinator.member_id, coordinator.generation)

    async def leave(self) -> None:
        """Out of the group; what `member` says stays."""
        await self._consumer.stop()

    async def offset_note(self, partition: tuple[str, int]) -> str:
        """See `Membership`."""
        return await offset_note(self._consumer._coordinator, TopicPartition(*partition))

    async def offset(self, partition: int) -> int | None:
        """The stable one."""
        return await stable_offset(
            self._consumer._coordinator, TopicPartition(self._topic, partition)
        )

    async def commit(self, partition: int, offset: int, note: str) -> None:
        """As a takeover does, under the group's generation."""
        await self._consumer.commit({TopicPartition(self._topic, partition): (offset, note)})
