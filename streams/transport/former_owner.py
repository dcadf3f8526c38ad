"""What a worker that is gone left open: found by the name it noted beside the group's offset.

Each worker's transactions have an id of its own, so nobody opens a dead one's again by itself. Its
last transaction would stay open until its time is up, and readers of committed records with it.
"""

from __future__ import annotations

import time
from typing import Any

from aiokafka import errors  # type: ignore[import-untyped]
from aiokafka.client import CoordinationType  # type: ignore[import-untyped]
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

_UNKNOWN_ID = 105
_OFFSETS = "__consumer_offsets"

HUNG_S = 1.0
"""A transaction of another worker that is open for longer, and that our partition waits for, is
taken to be that of a dead one. Ending that of a living one costs it a takeover, and no more."""


class TransactionsResponse(Response):  # type: ignore[misc]  # untyped base
    """DescribeTransactions, version 0."""

    API_KEY = 65
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "transactions",
            CompactArray(
                ("error_code", Int16),
                ("transactional_id", CompactString("utf-8")),
                ("state", CompactString("utf-8")),
                ("timeout_ms", Int32),
                ("start_time_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                (
                    "topics",
                    CompactArray(
                        ("topic", CompactString("utf-8")),
                        ("partitions", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class TransactionsStruct(RequestStruct):  # type: ignore[misc]  # untyped base
    """DescribeTransactions, version 0."""

    API_KEY = 65
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = TransactionsResponse
    SCHEMA = Schema(
        ("transactional_ids", CompactArray(CompactString("utf-8"))), ("tags", TaggedFields)
    )


class TransactionsRequest(Request[TransactionsStruct]):  # type: ignore[misc]  # untyped base
    """Asks what the transaction of an id is doing."""

    API_KEY = 65

    def __init__(self, transactional_id: str) -> None:
        self._id = transactional_id

    def build(self, struct: type[TransactionsStruct]) -> TransactionsStruct:
        """The request on the wire."""
        return struct([self._id], {})


class FormerOwners:
    """Tells whether a former owner's transaction is still open and holds up a partition."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    async def left_open(self, client: Any, transactional_id: str, partition: int) -> bool:
        """Whether that id's transaction is to be ended for the sake of a source partition.

        It is if it holds outputs of the partition, which is not the former owner's any more
        (outputs go to the source partition's number), or if it is open since `HUNG_S`.

        Args:
            client: aiokafka's client, connected.
            transactional_id: What the former owner noted.
            partition: Source partition.

        Raises:
            KafkaError: what else the bus answered.
        """
        node = await client.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
        try:
            answer = await client.send(node, TransactionsRequest(transactional_id))
        except errors.IncompatibleBrokerVersion:
            return False  # before Kafka 3.0: its time runs out by itself
        for code, _, state, _, start_ms, _, _, topics, _ in answer.transactions:
            if code not in (0, _UNKNOWN_ID):
                raise errors.for_code(code)(transactional_id)
            if state == "Ongoing":
                outputs = [numbers for topic, numbers, _ in topics if topic != _OFFSETS]
                ours = any(partition in numbers for numbers in outputs)
                return ours or self._hung(transactional_id, start_ms)
        self._seen.pop(transactional_id, None)
        return False

    def _hung(self, transactional_id: str, start_ms: int) -> bool:
        """Whether the same transaction was open `HUNG_S` ago, by our own clock."""
        now = time.monotonic()
        start, first = self._seen.get(transactional_id, (start_ms, now))
        self._seen[transactional_id] = (start_ms, first if start == start_ms else now)
        return start == start_ms and now - first > HUNG_S
