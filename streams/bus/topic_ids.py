"""Which topic of a name it is: the bus gives it an id, another one each time it is made (KIP-516).

aiokafka 0.14 speaks Metadata up to version 5, which knows names only. A topic that is deleted and
made again between two of its looks is the same one to it, and is read on in another log.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiokafka import errors  # type: ignore[import-untyped]
from aiokafka.client import ConnectionGroup  # type: ignore[import-untyped]
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

TopicId = tuple[int, int]
"""Both halves of the id; zeros where the bus has none."""

NO_ID: TopicId = (0, 0)


class TopicIdsResponse(Response):  # type: ignore[misc]  # untyped base
    """Metadata, version 12."""

    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("id_high", Int64),
                ("id_low", Int64),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class TopicIdsStruct(RequestStruct):  # type: ignore[misc]  # untyped base
    """Metadata, version 12."""

    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = TopicIdsResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("id_high", Int64),
                ("id_low", Int64),
                ("name", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicIdsRequest(Request[TopicIdsStruct]):  # type: ignore[misc]  # untyped base
    """Asks for the topics of these names, and makes none of them."""

    API_KEY = 3

    def __init__(self, topics: Iterable[str]) -> None:
        self._topics = list(topics)

    def build(self, struct: type[TopicIdsStruct]) -> TopicIdsStruct:
        """The request on the wire."""
        return struct([(*NO_ID, topic, {}) for topic in self._topics], False, False, {})


async def topic_ids(client: Any, topics: Iterable[str]) -> dict[str, TopicId]:
    """Ids of the topics that are there; none of a bus that has no ids (before Kafka 3.0).

    Asked beside the connection on which fetches wait.

    Args:
        client: aiokafka's client, connected.
        topics: Names.

    Raises:
        KafkaError: no answer.
    """
    node = client.get_random_node()
    if node is None:
        return {}
    try:
        answer = await client.send(
            node, TopicIdsRequest(topics), group=ConnectionGroup.COORDINATION
        )
    except (errors.IncompatibleBrokerVersion, NotImplementedError):
        return {}
    return {
        name: (high, low)
        for code, name, high, low, *_ in answer.topics
        if code == 0 and (high, low) != NO_ID
    }


class SameTopics:
    """Tells of topics that were made anew since the last look.

    Args:
        topics: Their names.
    """

    def __init__(self, topics: Iterable[str]) -> None:
        self._topics = list(topics)
        self._known: dict[str, TopicId] = {}

    async def made_anew(self, client: Any) -> list[str]:
        """Topics whose id is another one than at the last look that found them.

        Raises:
            KafkaError: no answer.
        """
        known, found = self._known, await topic_ids(client, self._topics)
        anew = [topic for topic, id_ in found.items() if known.get(topic, id_) != id_]
        known.update(found)
        return anew
