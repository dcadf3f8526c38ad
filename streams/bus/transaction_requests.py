"""What the bus knows of transactions, and the marker that ends one: what aiokafka does not ask."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from aiokafka.protocol.api import Request, RequestStruct, Response  # type: ignore[import-untyped]
from aiokafka.protocol.types import (  # type: ignore[import-untyped]
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

_TAGS = ("tags", TaggedFields)
_PARTITIONS = CompactArray(
    ("topic", CompactString("utf-8")), ("partitions", CompactArray(Int32)), _TAGS
)


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
                ("topics", _PARTITIONS),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class TransactionsStruct(RequestStruct):  # type: ignore[misc]  # untyped base
    """DescribeTransactions, version 0."""

    API_KEY = 65
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = TransactionsResponse
    SCHEMA = Schema(("transactional_ids", CompactArray(CompactString("utf-8"))), _TAGS)


class TransactionsRequest(Request[TransactionsStruct]):  # type: ignore[misc]  # untyped base
    """Asks what the transaction of an id is doing."""

    API_KEY = 65

    def __init__(self, transactional_id: str) -> None:
        self._id = transactional_id

    def build(self, struct: type[TransactionsStruct]) -> TransactionsStruct:
        """The request on the wire."""
        return struct([self._id], {})


class IdsResponse(Response):  # type: ignore[misc]  # untyped base
    """ListTransactions, version 0."""

    API_KEY = 66
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("unknown_states", CompactArray(CompactString("utf-8"))),
        (
            "transactions",
            CompactArray(
                ("transactional_id", CompactString("utf-8")),
                ("producer_id", Int64),
                ("state", CompactString("utf-8")),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class IdsStruct(RequestStruct):  # type: ignore[misc]  # untyped base
    """ListTransactions, version 0."""

    API_KEY = 66
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = IdsResponse
    SCHEMA = Schema(
        ("states", CompactArray(CompactString("utf-8"))),
        ("producer_ids", CompactArray(Int64)),
        _TAGS,
    )


class IdsRequest(Request[IdsStruct]):  # type: ignore[misc]  # untyped base
    """Asks a broker for the transactional ids of producers that it coordinates."""

    API_KEY = 66

    def __init__(self, producers: Iterable[int]) -> None:
        self._producers = sorted(producers)

    def build(self, struct: type[IdsStruct]) -> IdsStruct:
        """The request on the wire."""
        return struct([], self._producers, {})


class ProducersResponse(Response):  # type: ignore[misc]  # untyped base
    """DescribeProducers, version 0."""

    API_KEY = 61
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("error_message", CompactString("utf-8")),
                        (
                            "producers",
                            CompactArray(
                                ("producer_id", Int64),
                                ("producer_epoch", Int32),
                                ("last_sequence", Int32),
                                ("last_timestamp", Int64),
                                ("coordinator_epoch", Int32),
                                ("open_since", Int64),
                                _TAGS,
                            ),
                        ),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class ProducersStruct(RequestStruct):  # type: ignore[misc]  # untyped base
    """DescribeProducers, version 0."""

    API_KEY = 61
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = ProducersResponse
    SCHEMA = Schema(("topics", _PARTITIONS), _TAGS)


class ProducersRequest(Request[ProducersStruct]):  # type: ignore[misc]  # untyped base
    """Asks the leader of partitions who has a transaction open in them."""

    API_KEY = 61

    def __init__(self, partitions: dict[str, list[int]]) -> None:
        self._partitions = partitions

    def build(self, struct: type[ProducersStruct]) -> ProducersStruct:
        """The request on the wire."""
        return struct([(topic, numbers, {}) for topic, numbers in self._partitions.items()], {})


class MarkersResponse(Response):  # type: ignore[misc]  # untyped base
    """WriteTxnMarkers, version 1."""

    API_KEY = 27
    API_VERSION = 1
    SCHEMA = Schema(
        (
            "markers",
            CompactArray(
                ("producer_id", Int64),
                (
                    "topics",
                    CompactArray(
                        ("topic", CompactString("utf-8")),
                        (
                            "partitions",
                            CompactArray(("partition", Int32), ("error_code", Int16), _TAGS),
                        ),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class MarkersStruct(RequestStruct):  # type: ignore[misc]  # untyped base
    """WriteTxnMarkers, version 1."""

    API_KEY = 27
    API_VERSION = 1
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = MarkersResponse
    SCHEMA = Schema(
        (
            "markers",
            CompactArray(
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                ("committed", Boolean),
                ("topics", _PARTITIONS),
                ("coordinator_epoch", Int32),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class Marker(NamedTuple):
    """The end of a transaction in one partition."""

    topic: str
    partition: int
    producer_id: int
    producer_epoch: int
    coordinator_epoch: int
    committed: bool


class MarkersRequest(Request[MarkersStruct]):  # type: ignore[misc]  # untyped base
    """Writes the end of a transaction into one partition, as the transaction's coordinator does."""

    API_KEY = 27

    def __init__(self, marker: Marker) -> None:
        self._marker = marker

    def build(self, struct: type[MarkersStruct]) -> MarkersStruct:
        """The request on the wire."""
        m = self._marker
        where: list[Any] = [(m.topic, [m.partition], {})]
        one: Any = (m.producer_id, m.producer_epoch, m.committed, where, m.coordinator_epoch, {})
        return struct([one], {})
