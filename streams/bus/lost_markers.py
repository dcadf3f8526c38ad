"""A transaction that the bus calls ended, and whose end is missing in a partition.

A broker that crashes may come back with one (seen on Kafka 4.3.1 after its disk was full). Nobody
ends it: readers of committed records stop before it, and the group's offset that it moves stays
undecided. What was decided about it is known to its coordinator until its id is opened again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from aiokafka import TopicPartition, errors  # type: ignore[import-untyped]
from aiokafka.client import CoordinationType  # type: ignore[import-untyped]

from headrace.streams.bus.transaction_requests import (
    IdsRequest,
    Marker,
    MarkersRequest,
    ProducersRequest,
    TransactionsRequest,
)

OFFSETS = "__consumer_offsets"

_UNKNOWN_ID = 105
_ENDED = {"CompleteCommit": True, "CompleteAbort": False}
_CANNOT_TELL = (errors.IncompatibleBrokerVersion, NotImplementedError)


class Described(NamedTuple):
    """What the coordinator says of an id's last transaction.

    Attributes:
        state: In Kafka's words: Empty, Ongoing, PrepareCommit, CompleteAbort, ….
        start_ms: When it began; tells it from the next one.
        producer_id: The id's number.
        producer_epoch: How often it was opened.
        topics: Partitions that are in it, by topic; of one that is ended none.
    """

    state: str
    start_ms: int
    producer_id: int
    producer_epoch: int
    topics: dict[str, list[int]]

    @property
    def committed(self) -> bool | None:
        """What was decided and is said to be in every partition; None: it is not ended."""
        return _ENDED.get(self.state)

    @property
    def running(self) -> bool:
        """Its owner may still decide, or the bus is at it."""
        return self.state == "Ongoing" or self.ending

    @property
    def ending(self) -> bool:
        """It is decided, and the bus is about to write that down."""
        return self.state.startswith("Prepare")


class Hanging(NamedTuple):
    """A transaction that is open in one partition.

    Attributes:
        part: The partition.
        since: Offset of its first record.
        producer_id: Whose.
        producer_epoch: Which opening of its id.
        coordinator_epoch: Which coordinator wrote the last marker.
    """

    part: TopicPartition
    since: int
    producer_id: int
    producer_epoch: int
    coordinator_epoch: int

    def __str__(self) -> str:
        return f"{self.part.topic}[{self.part.partition}]@{self.since}"


class Seen(NamedTuple):
    """What is open in partitions.

    Attributes:
        hanging: Transactions of anybody.
        whole: Nothing was left out because this user may not read it.
    """

    hanging: list[Hanging]
    whole: bool


async def described(client: Any, transactional_id: str) -> Described | None:
    """The last transaction of an id; None: the bus knows none, or cannot tell (before Kafka 3.0).

    Args:
        client: aiokafka's client, connected.
        transactional_id: Whose.

    Raises:
        KafkaError: what else the bus answered.
    """
    node = await client.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
    try:
        answer = await client.send(node, TransactionsRequest(transactional_id))
    except _CANNOT_TELL:
        return None
    for code, _, state, _, start_ms, number, epoch, topics, _ in answer.transactions:
        if code == _UNKNOWN_ID:
            return None
        if code != 0:
            raise errors.for_code(code)(transactional_id)
        parts = {topic: list(numbers) for topic, numbers, _ in topics}
        return Described(state, start_ms, number, epoch, parts)
    return None


async def open_in(client: Any, topics: Iterable[str], group: str) -> Seen:
    """Every transaction that is open in these topics, or moves offsets of the group.

    Topics that are not there are passed over.

    Args:
        client: aiokafka's client, connected.
        topics: Names.
        group: Consumer group.

    Raises:
        KafkaError: what else the bus answered.

    Cost: one request to each leader, besides metadata.
    """
    by_leader: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    cluster = await client.fetch_all_metadata()
    for part in _parts(cluster, topics, group):
        by_leader[_leader(cluster, part)][part.topic].append(part.partition)
    try:
        answers = await asyncio.gather(
            *(client.send(node, ProducersRequest(parts)) for node, parts in by_leader.items())
        )
    except _CANNOT_TELL:
        return Seen([], whole=False)
    rows = [row for answer in answers for row in _rows(answer)]
    whole = cluster.partitions_for_topic(OFFSETS) is not None
    return Seen(
        [found for row in rows if row is not None for found in row], whole and None not in rows
    )


async def ids_of(client: Any, producers: Collection[int]) -> dict[int, str]:
    """The transactional ids behind producers' numbers; those nobody knows are left out.

    Raises:
        KafkaError: what the bus answered.
    """
    cluster = await client.fetch_all_metadata()
    asked = [client.send(one.nodeId, IdsRequest(producers)) for one in cluster.brokers()]
    found: dict[int, str] = {}
    for answer in await asyncio.gather(*asked):
        if answer.error_code != 0:
            raise errors.for_code(answer.error_code)("listing transactions")
        found.update({number: name for name, number, _, _ in answer.transactions})
    return found


async def write_marker(client: Any, hanging: Hanging, *, committed: bool) -> None:
    """End a transaction in one partition, as its coordinator would.

    The caller has made sure that the id cannot be used meanwhile, and of what was decided.

    Raises:
        ClusterAuthorizationFailedError: the user has neither `ClusterAction` nor `Alter` on the
            cluster.
        KafkaError: what else the bus answered.
    """
    cluster = await client.fetch_all_metadata()
    # A producer that never had a transaction ended in this partition has no coordinator there yet.
    marker = Marker(
        hanging.part.topic,
        hanging.part.partition,
        hanging.producer_id,
        hanging.producer_epoch,
        max(hanging.coordinator_epoch, 0),
        committed,
    )
    _check(await client.send(_leader(cluster, hanging.part), MarkersRequest(marker)))


async def may_write_markers(client: Any) -> bool:
    """Whether this user may end transactions of others: tried on a partition that is not there.

    Raises:
        KafkaError: the bus did not answer. Nobody may be taken to have the right then: who opens an
            id on the strength of it makes the bus forget what it decided.
    """
    cluster = await client.fetch_all_metadata()
    nobody = Marker(OFFSETS, (1 << 31) - 1, 0, 0, 0, committed=False)
    try:
        answer = await client.send(next(iter(cluster.brokers())).nodeId, MarkersRequest(nobody))
    except _CANNOT_TELL:
        return False
    try:
        _check(answer)
    except errors.ClusterAuthorizationFailedError:
        return False
    except errors.KafkaError:
        return True  # of the partition: the right to it was there
    return True


def offsets_partition(group: str, partitions: int) -> int:
    """Which partition of `__consumer_offsets` holds a group.

    Example:
        >>> offsets_partition("press.enrich", 50)
        44
    """
    value = 0
    units = group.encode("utf-16-be")
    for at in range(0, len(units), 2):
        value = (31 * value + int.from_bytes(units[at : at + 2])) & 0xFFFF_FFFF
    return (value if value < 1 << 31 else (1 << 32) - value) % (1 << 31) % partitions


def _parts(cluster: Any, topics: Iterable[str], group: str) -> Iterable[TopicPartition]:
    for topic in dict.fromkeys(topics):
        for number in sorted(cluster.partitions_for_topic(topic) or ()):
            yield TopicPartition(topic, number)
    if offsets := cluster.partitions_for_topic(OFFSETS):
        yield TopicPartition(OFFSETS, offsets_partition(group, len(offsets)))


def _leader(cluster: Any, part: TopicPartition) -> int:
    node: int | None = cluster.leader_for_partition(part)
    if node is None or node < 0:
        raise errors.LeaderNotAvailableError(part)
    return node


def _rows(answer: Any) -> Iterable[list[Hanging] | None]:
    """What is open in each partition; None where we may not know."""
    for topic, partitions, _ in answer.topics:
        for number, code, _, producers, _ in partitions:
            kind = errors.for_code(code)
            if kind is errors.TopicAuthorizationFailedError:
                yield None
            elif kind not in (errors.NoError, errors.UnknownTopicOrPartitionError):
                raise kind(topic)
            else:
                part = TopicPartition(topic, number)
                yield [
                    Hanging(part, since, producer, epoch, coordinator)
                    for producer, epoch, _, _, coordinator, since, _ in producers or ()
                    if since >= 0
                ]


def _check(answer: Any) -> None:
    for _, topics, _ in answer.markers:
        for topic, partitions, _ in topics:
            for _, code, _ in partitions:
                kind = errors.for_code(code)
                if kind is not errors.NoError:
                    raise kind(topic)
