"""The door to aiokafka for all that is not the stages' consumer: errors, topics, raw reads."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]
from aiokafka.admin.config_resource import (  # type: ignore[import-untyped]
    ConfigResource,
    ConfigResourceType,
)
from aiokafka.conn import collect_hosts, create_conn  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    ConsumerStoppedError,
    IllegalOperation,
    KafkaConnectionError,
    KafkaError,
    TopicAlreadyExistsError,
    for_code,
)
from aiokafka.protocol.metadata import MetadataRequest  # type: ignore[import-untyped]

from headrace.schemas.batch import LastRecord, RecordBatch
from headrace.schemas.errors import (
    BusRefusedError,
    BusUnavailableError,
    HeadraceError,
    StateError,
    TopicError,
)
from headrace.schemas.topics import EVENT_LIMIT_BYTES, TopicSpec
from headrace.streams.bus_check import BusCheck
from headrace.streams.bus_errors import as_ours, explain
from headrace.streams.bus_options import client_options as client_options
from headrace.streams.bus_reads import Start, log_edges, read_assigned, start_offsets
from headrace.streams.bus_topics import (
    TopicFound,
    check_partitions,
    check_present,
    count_partitions,
    topic_configs,
    topic_settings,
)
from headrace.streams.transport.repairs import repair_aiokafka

repair_aiokafka()

Options = Mapping[str, Any]
Partition = tuple[str, int]

_CONNECTION = (
    *("client_id", "request_timeout_ms", "security_protocol", "ssl_context"),
    *("sasl_mechanism", "sasl_plain_username", "sasl_plain_password"),
)
_TOPICS_S = 15.0


@contextlib.contextmanager
def mapped_errors(tried: str) -> Iterator[None]:
    """Raise what aiokafka and the network raise as ours; ours, and cancellation, pass.

    Args:
        tried: What the body does, the beginning of the message: ``"reading a[0]@7"``.

    Raises:
        RetryableError, FatalError: by the table in `bus_errors`.
    """
    try:
        yield
    except HeadraceError:
        raise
    except (KafkaError, ConsumerStoppedError, IllegalOperation, OSError, TimeoutError) as error:
        raise explain(error, tried) from error


@contextlib.asynccontextmanager
async def _started(client: Any, options: Options, tried: str) -> AsyncIterator[Any]:
    """A client that is connected, and closed in the end; its errors mapped.

    aiokafka only logs why it could not connect at first; one connection more tells.
    """
    close = client.stop if isinstance(client, AIOKafkaConsumer) else client.close
    try:
        with mapped_errors(tried):
            try:
                await client.start()
            except KafkaConnectionError:
                await _connect(options, tried)
                raise
            yield client
    finally:
        await close()


async def _connect(options: Options, tried: str) -> float:
    """Connect, log in and ask any of the servers, the reason of the last failure if none answers.

    Returns:
        Seconds it took.
    """
    arguments = {name: options[name] for name in _CONNECTION if name in options}
    failed: HeadraceError | None = None
    for host, port, _ in collect_hosts(options["bootstrap_servers"]):
        began = time.monotonic()
        try:
            with mapped_errors(f"{tried} at {host}:{port}"):
                connection = await create_conn(host, port, **arguments)
                with contextlib.closing(connection):
                    await connection.send(MetadataRequest([]))
            return time.monotonic() - began
        except BusRefusedError:
            raise
        except HeadraceError as error:
            failed = error
    if failed is None:
        raise BusUnavailableError(f"{tried} found no server to ask; name one in HEADRACE_BUS")
    raise failed


async def check_bus(options: Options) -> BusCheck:
    """Whether the bus can be reached, and lets us in; never raises one of our errors."""
    servers = ",".join(options["bootstrap_servers"])
    try:
        took_ms = await _connect(options, "connecting to the bus") * 1000
    except BusUnavailableError as error:
        return BusCheck("unreachable", str(error))
    except HeadraceError as error:
        return BusCheck("refused", str(error))
    return BusCheck("answers", f"the bus at {servers} answers in {took_ms:.1f} ms", took_ms)


async def describe_topics(
    options: Options, names: Sequence[str] | None = None
) -> dict[str, TopicFound]:
    """The topics of these names (None: all) that exist, with their settings.

    Raises:
        BusUnavailableError: retryable; BusRefusedError: fatal.
    """
    async with _started(AIOKafkaAdminClient(**options), options, "asking for topics") as admin:
        counts = await _partition_counts(admin)
        asked = [name for name in counts if names is None or name in names]
        configs = await _configs(admin, asked)
    return {name: TopicFound(name, counts[name], configs.get(name, {})) for name in asked}


async def _partition_counts(admin: Any) -> dict[str, int]:
    """Of all topics: asking for one by its name would create it where the bus does so by itself."""
    return count_partitions(await admin.describe_topics())


async def _configs(admin: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Settings of topics; empty where the bus cannot tell or may not."""
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    try:
        answers = await admin.describe_configs(asked) if asked else []
    except KafkaError:
        return {}
    return topic_settings(answers)


async def ensure_topics(
    options: Options, specs: Sequence[TopicSpec], *, replication: int = -1
) -> None:
    """Create the topics that are missing, and see that each has its partitions and leaders.

    Idempotent, also when several processes do it at once. A topic that exists keeps its settings.

    Args:
        options: Client options.
        specs: The topics wanted; one that is not `ours` must exist.
        replication: Replicas of a new topic; -1 is the bus's default.

    Raises:
        TopicError: another partition count, a missing topic that is not ours, or a creation that
            the bus refuses. Fatal.
        BusUnavailableError: retryable; BusRefusedError: fatal.
    """
    async with _started(AIOKafkaAdminClient(**options), options, "preparing topics") as admin:
        counts = await _partition_counts(admin)
        missing = [spec for spec in specs if spec.name not in counts]
        check_present(missing)
        if missing:
            await _create(admin, missing, replication)
        deadline = time.monotonic() + _TOPICS_S
        while any(counts.get(spec.name, 0) < spec.partitions for spec in missing):
            if time.monotonic() > deadline:
                raise BusUnavailableError("new topics have no leader yet; they are asked for again")
            counts = await _partition_counts(admin)
    for spec in specs:
        check_partitions(spec, counts[spec.name])


async def _create(admin: Any, specs: Sequence[TopicSpec], replication: int) -> None:
    # The client wants assignments, be they empty, where the bus is to choose the replicas.
    assigned: dict[int, list[int]] | None = {} if replication == -1 else None
    wanted = [
        NewTopic(spec.name, spec.partitions, replication, assigned, topic_configs(spec))
        for spec in specs
    ]
    answer = await admin.create_topics(wanted)
    for name, code, *_ in answer.topic_errors:
        kind = for_code(code)
        if code and kind is not TopicAlreadyExistsError:
            raise as_ours(kind, f"creating topic {name!r}")


@contextlib.asynccontextmanager
async def _consumer(options: Options, tried: str, **more: Any) -> AsyncIterator[Any]:
    """A connected consumer that never joins a group and never commits by itself."""
    client = AIOKafkaConsumer(
        **options,
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=EVENT_LIMIT_BYTES,
        **more,
    )
    async with _started(client, options, tried) as consumer:
        yield consumer


async def _parts(consumer: Any, topics: Sequence[str]) -> list[TopicPartition]:
    """Every partition of the topics, by a look at all: asking by name might create one."""
    found = await consumer._client.fetch_all_metadata()
    counts = {topic: found.partitions_for_topic(topic) or () for topic in topics}
    for topic, numbers in counts.items():
        if not numbers:
            raise TopicError(f"topic {topic!r} is not on the bus; create it, or correct [topics]")
    return [TopicPartition(topic, number) for topic in topics for number in sorted(counts[topic])]


async def log_ranges(options: Options, topic: str) -> dict[int, tuple[int, int]]:
    """Of each partition the first offset in the log, and the offset after its last.

    Raises:
        TopicError: there is no such topic. Fatal.
        BusUnavailableError: retryable; BusRefusedError: fatal.
    """
    async with _consumer(options, f"asking for the log of {topic}") as consumer:
        found = await log_edges(consumer, await _parts(consumer, [topic]))
    return {part.partition: offsets for part, offsets in found.items()}


async def log_range(options: Options, topic: str, partition: int) -> tuple[int, int]:
    """First offset in the log of one partition, and the offset after its last.

    Raises:
        TopicError: there is no such partition. Fatal.
        BusUnavailableError: retryable; BusRefusedError: fatal.
    """
    async with _consumer(options, f"asking for the log of {topic}[{partition}]") as consumer:
        part = TopicPartition(topic, partition)
        if part not in await _parts(consumer, [topic]):
            raise TopicError(f"topic {topic!r} has no partition {partition}; check its topics")
        return (await log_edges(consumer, [part]))[part]


async def offset_at_time(options: Options, topic: str, time_ms: int) -> dict[int, int]:
    """Of each partition the offset of the first record at or after a time.

    Args:
        options: Client options.
        topic: Topic name.
        time_ms: Milliseconds since 1970, in the broker's time.

    Returns:
        Offset by partition; the log's end where no record is as young.

    Raises:
        TopicError: there is no such topic. Fatal.
        BusUnavailableError: retryable; BusRefusedError: fatal.
    """
    async with _consumer(options, f"asking for times of {topic}") as consumer:
        found = await start_offsets(consumer, await _parts(consumer, [topic]), time_ms)
    return {part.partition: offset for part, offset in found.items()}


async def read_range(
    options: Options,
    topic: str,
    partition: int,
    start: int,
    stop: int,
    *,
    read_committed: bool = False,
) -> AsyncIterator[RecordBatch]:
    """Records from `start` up to but not including `stop`, in order, without a group.

    Args:
        options: Client options.
        topic: Topic name.
        partition: Partition number.
        start: First offset; not below the log's first.
        stop: Offset to stop before; one beyond the log's end means its end at the call.
        read_committed: Leave out records of aborted transactions, and wait for open ones.

    Yields:
        Batches of at least one record.

    Raises:
        StateError: `start` is below the log's first offset, its records are expired. Fatal.
        BusUnavailableError: no answer, or no record for the request timeout: retryable.
        TopicError, BusRefusedError: fatal.
    """
    tried = f"reading {topic}[{partition}] from {start}"
    isolation = "read_committed" if read_committed else "read_uncommitted"
    async with _consumer(options, tried, isolation_level=isolation) as consumer:
        part = TopicPartition(topic, partition)
        begin, end = (await log_edges(consumer, await _parts(consumer, [topic])))[part]
        if start < begin:
            raise StateError(
                f"{tried} failed, the log begins at {begin}: what is older is expired; "
                f"begin there, or keep the topic longer"
            )
        if start < min(stop, end):
            consumer.assign([part])
            consumer.seek(part, start)
            patience_s = options["request_timeout_ms"] / 1000
            async for batch in read_assigned(consumer, part, min(stop, end), patience_s):
                yield batch


async def read_one(options: Options, topic: str, partition: int, offset: int) -> RecordBatch | None:
    """The record at an offset as a batch of one; None when the log does not hold it.

    Raises:
        BusUnavailableError: retryable; BusRefusedError, TopicError: fatal.
    """
    try:
        found = [b async for b in read_range(options, topic, partition, offset, offset + 1)]
    except StateError:  # it is below the log's first
        return None
    return found[0] if found and found[0].first == offset else None


async def last_record(
    options: Options, topic: str, partition: int, offset: int
) -> LastRecord | None:
    """What identifies the record at `offset`, to compare a checkpoint with the log.

    Raises:
        BusUnavailableError: retryable; BusRefusedError, TopicError: fatal.
    """
    found = await read_one(options, topic, partition, offset)
    return None if found is None else found.last_record()


async def first_positions(
    options: Options,
    group: str,
    topics: Sequence[str],
    start: Start = "latest",
    *,
    known: Callable[[list[Partition]], Awaitable[dict[Partition, int]]] | None = None,
) -> dict[Partition, int]:
    """Commit where a group starts, for partitions on which it has no offset yet.

    To be called before a member joins: a group with members refuses offsets from outside, and
    then has its own.

    Args:
        options: Client options.
        group: Consumer group.
        topics: Topics it will read.
        start: ``latest``, ``earliest``, or a broker time in milliseconds since 1970.
        known: Asked for the partitions without an offset; what it answers goes before `start`.

    Returns:
        The offsets that were committed; empty when every partition had one.

    Raises:
        OwnershipLostError: members joined meanwhile and some partition has no offset: retryable.
        BusUnavailableError: retryable; BusRefusedError, TopicError: fatal.
    """
    tried = f"setting where group {group!r} starts"
    async with _consumer(options, tried, group_id=group) as consumer:
        parts = await _parts(consumer, topics)
        consumer.assign(parts)
        committed = [await consumer.committed(part) for part in parts]
        new = [part for part, offset in zip(parts, committed, strict=True) if offset is None]
        if not new:
            return {}
        offsets = await start_offsets(consumer, new, start)
        if known is not None:
            better = await known([(part.topic, part.partition) for part in new])
            offsets |= {TopicPartition(*place): offset for place, offset in better.items()}
        await consumer.commit(offsets)
    return {(part.topic, part.partition): offset for part, offset in offsets.items()}
