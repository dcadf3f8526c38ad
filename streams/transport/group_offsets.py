"""Offsets of a transaction under the group's generation (KIP-447): who left the group is refused.

aiokafka 0.14 speaks TxnOffsetCommit version 0, which names the group only: the bus then takes the
offsets of anybody, and each partition would need a transactional id of its own, so that opening
it shuts the former owner out.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer, errors  # type: ignore[import-untyped]
from aiokafka.client import CoordinationType  # type: ignore[import-untyped]
from aiokafka.producer.sender import TxnOffsetCommitHandler  # type: ignore[import-untyped]
from aiokafka.protocol.api import Request, RequestStruct, Response  # type: ignore[import-untyped]
from aiokafka.protocol.types import (  # type: ignore[import-untyped]
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

_REFUSED = (
    errors.IllegalGenerationError,
    errors.UnknownMemberIdError,
    errors.RebalanceInProgressError,
    errors.TopicAuthorizationFailedError,
)
"""Answers about the member, not the transaction: it can be aborted, and the producer goes on."""


class Member(NamedTuple):
    """A worker's place in its consumer group.

    Attributes:
        id: What the group calls it.
        generation: Of the group, as of its last rebalance; below 1 while it has none.
    """

    id: str
    generation: int


class GroupOffsetsResponse(Response):  # type: ignore[misc]  # untyped base
    """TxnOffsetCommit, version 3."""

    API_KEY = 28
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32), ("error_code", Int16), ("tags", TaggedFields)
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class GroupOffsetsStruct(RequestStruct):  # type: ignore[misc]  # untyped base
    """TxnOffsetCommit, version 3."""

    API_KEY = 28
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = GroupOffsetsResponse
    SCHEMA = Schema(
        ("transactional_id", CompactString("utf-8")),
        ("group", CompactString("utf-8")),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation", Int32),
        ("member", CompactString("utf-8")),
        ("instance", CompactString("utf-8")),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", CompactString("utf-8")),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class GroupOffsetsRequest(Request[GroupOffsetsStruct]):  # type: ignore[misc]  # untyped base
    """Moves the group's offsets within a transaction, as one of its members.

    Args:
        transaction: aiokafka's transaction manager.
        group: Consumer group.
        member: Who asks.
        offsets: Offset and note of each partition.
    """

    API_KEY = 28

    def __init__(self, transaction: Any, group: str, member: Member, offsets: Any) -> None:
        self._transaction, self._group = transaction, group
        self._member, self._offsets = member, offsets

    def build(self, struct: type[GroupOffsetsStruct]) -> GroupOffsetsStruct:
        """The request on the wire."""
        topics: dict[str, list[Any]] = defaultdict(list)
        for part, told in sorted(self._offsets.items()):
            topics[part.topic].append((part.partition, told.offset, -1, told.metadata, {}))
        manager = self._transaction
        return struct(
            manager.transactional_id,
            self._group,
            manager.producer_id,
            manager.producer_epoch,
            self._member.generation,
            self._member.id,
            None,
            [(topic, partitions, {}) for topic, partitions in topics.items()],
            {},
        )


class _Handler(TxnOffsetCommitHandler):  # type: ignore[misc]  # untyped base
    """aiokafka's own, with the newer request; what it does not know ends the transaction only."""

    member: Member

    def create_request(self) -> GroupOffsetsRequest:
        manager = self._sender._txn_manager
        return GroupOffsetsRequest(manager, self._group_id, self.member, self._offsets)

    def handle_response(self, response: Any) -> float | None:
        for _, partitions, _ in response.topics:
            for _, code, _ in partitions:
                kind = errors.for_code(code)
                if kind in _REFUSED:
                    self._sender._txn_manager.error_transaction(kind(self._group_id))
                    return None
        plain = [
            (topic, [(number, code) for number, code, _ in partitions])
            for topic, partitions, _ in response.topics
        ]
        delay_s: float | None = super().handle_response(_Plain(plain))
        return delay_s


class _Plain(NamedTuple):
    """An answer of version 0."""

    errors: list[tuple[str, list[tuple[int, int]]]]


class GroupOffsets:
    """Makes a started producer commit its transactions' offsets as a member of the group.

    `member` is who does; to be set before each transaction that moves offsets. The group joins a
    transaction when it begins, not with its first offset: one round trip less in its hot part.
    """

    def __init__(self, producer: AIOKafkaProducer, group: str) -> None:
        self.member = Member("", 0)
        self._group = group
        self._sender = producer._sender
        self._sender._do_txn_offset_commit = self._commit
        self._manager = producer._txn_manager
        self._manager.consumer_group_to_add = self._to_add

    def _to_add(self) -> str | None:
        """As aiokafka's method of its transaction manager."""
        joined = self._manager._txn_consumer_group is not None
        return None if joined or not self._manager.is_in_transaction() else self._group

    async def _commit(self, offsets: Any, group: str) -> None:
        """As aiokafka's method of the sender, with our request."""
        try:
            node = await self._sender._find_coordinator(CoordinationType.GROUP, group)
        except errors.GroupAuthorizationFailedError as error:
            self._sender._txn_manager.error_transaction(error)
            return
        handler = _Handler(self._sender, offsets, group)
        handler.member = self.member
        await handler.do(node)
