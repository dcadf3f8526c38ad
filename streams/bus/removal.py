"""Consumer groups and topics, deleted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    GroupIdNotFound,
    NoError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.admin import DeleteGroupsRequest  # type: ignore[import-untyped]

from headrace.schemas.errors import BusUnavailableError
from headrace.streams.bus.connection import Options, started
from headrace.streams.bus.errors import as_ours

_GONE_S, _LOOK_S = 15.0, 0.1


async def remove_group(options: Options, group: str) -> None:
    """Delete a consumer group that has no members, with its offsets; one that is not there, too.

    Raises:
        OwnershipLostError: it has members: retryable.
        BusUnavailableError: retryable; BusRefusedError: fatal.
    """
    tried = f"deleting group {group!r}"
    async with started(AIOKafkaAdminClient(**options), options, tried) as admin:
        coordinator = await admin.find_coordinator(group)
        answer = await admin._client.send(coordinator, DeleteGroupsRequest([group]))
        for _, code in answer.results:
            kind = for_code(code)
            if kind not in (NoError, GroupIdNotFound):
                raise as_ours(kind, tried)


async def remove_topics(options: Options, names: Sequence[str]) -> None:
    """Delete topics with their records, and wait until they are gone; also such as are not there.

    Raises:
        BusUnavailableError: retryable; BusRefusedError, TopicError: fatal.
    """
    tried = f"deleting topics {', '.join(names)}"
    async with started(AIOKafkaAdminClient(**options), options, tried) as admin:
        answer = await admin.delete_topics(list(names))
        for _, code in answer.topic_error_codes:
            kind = for_code(code)
            if kind not in (NoError, UnknownTopicOrPartitionError):
                raise as_ours(kind, tried)
        give_up_s = time.monotonic() + _GONE_S
        while set(names) & {topic["topic"] for topic in await admin.describe_topics()}:
            if time.monotonic() > give_up_s:
                raise BusUnavailableError(f"{tried}: they are still there; ask again")
            await asyncio.sleep(_LOOK_S)
