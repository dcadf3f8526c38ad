"""Where a log ends, asked in the one way that every bus answers rightly.

A Kafka broker lists the offset after the last record. The embedded bus lists the first offset of
the last record batch, plus one: six records sent together end at 1, and whoever believes it takes
a checkpoint at 6 for that of another log. What a fetch says beside the records is right on both.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import TopicPartition  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    KafkaError,
    NoError,
    OffsetOutOfRangeError,
    RequestTimedOutError,
    StaleMetadata,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest  # type: ignore[import-untyped]

_COMMITTED_ONLY = 1
# The embedded bus looks at nothing within 0 ms, and leaves out of its answer what it did not look
# at. Kafka answers at once, as nothing is the least that is asked for.
_WAIT_MS, _LEAST_BYTES, _MOST_BYTES = 5, 0, 0
_AGAIN_S = 0.05


async def log_ends(consumer: Any, parts: Iterable[Any]) -> dict[Any, int]:
    """The offset after the last record of each partition.

    For a consumer that reads committed records only: after the last stable one. No record is
    transferred, and the consumer's assignment and positions stay as they are. Where the user may
    know of a topic but not read it, the end as listed is the answer.

    Args:
        consumer: A started `AIOKafkaConsumer`.
        parts: Topics and partitions; they exist.

    Returns:
        Offset by partition; 0 for a log that never held a record.

    Raises:
        KafkaError, TimeoutError: as the library raises them, once its request timeout is over;
            to be mapped by the caller.

    Cost: two requests to each leader; on the embedded bus 5 ms.
    """
    asked = list(parts)
    async with asyncio.timeout(consumer._request_timeout_ms / 1000):
        while True:
            try:
                listed: dict[Any, int] = await consumer.end_offsets(asked)
                return listed | await _fetched(consumer, listed)
            except KafkaError as error:
                # Out of range: retention and new records came between the two requests.
                if not (error.retriable or isinstance(error, OffsetOutOfRangeError)):
                    raise
                if error.invalid_metadata:
                    consumer._client.force_metadata_update()
            await asyncio.sleep(_AGAIN_S)


async def _fetched(consumer: Any, listed: Mapping[Any, int]) -> dict[Any, int]:
    """What a fetch says of these partitions' ends; an empty log is listed rightly everywhere."""
    by_leader: dict[int, dict[str, list[tuple[int, int, int]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for part, end in listed.items():
        if end > 0:
            row = (part.partition, end, _MOST_BYTES)
            by_leader[_leader(consumer, part)][part.topic].append(row)
    isolation = consumer._fetcher._isolation_level
    answers = await asyncio.gather(*(
        consumer._client.send(
            node,
            FetchRequest(
                _WAIT_MS, _LEAST_BYTES, _MOST_BYTES, isolation, list(topics.items()), rack_id=""
            ),
        )
        for node, topics in by_leader.items()
    ))  # fmt: skip
    found = {
        part: end
        for answer in answers
        for part, end in _ends_of(answer, stable=isolation == _COMMITTED_ONLY)
    }
    if any(end > 0 and part not in found for part, end in listed.items()):
        raise RequestTimedOutError
    return {part: max(end, listed[part]) for part, end in found.items()}


def _leader(consumer: Any, part: Any) -> int:
    node: int | None = consumer._client.cluster.leader_for_partition(part)
    if node is None or node < 0:
        raise StaleMetadata(part)
    return node


def _ends_of(answer: Any, *, stable: bool) -> Iterable[tuple[Any, int]]:
    for topic, rows in answer.topics:
        for partition, code, end, last_stable, *_ in rows:
            kind = for_code(code)
            part = TopicPartition(topic, partition)
            if kind is TopicAuthorizationFailedError:
                yield part, 0  # the listed end is higher: it stands
            elif kind is not NoError:
                raise kind(part)
            else:
                yield part, last_stable if stable else end
