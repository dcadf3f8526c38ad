"""Connections to the bus, with its errors mapped: for topics, and for reads beside a group."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.conn import collect_hosts, create_conn  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    ConsumerStoppedError,
    IllegalOperation,
    KafkaConnectionError,
    KafkaError,
)
from aiokafka.protocol.metadata import MetadataRequest  # type: ignore[import-untyped]

from headrace.schemas.errors import (
    BusRefusedError,
    BusUnavailableError,
    HeadraceError,
    TopicError,
)
from headrace.schemas.topics import EVENT_LIMIT_BYTES
from headrace.streams.bus.check import BusCheck
from headrace.streams.bus.errors import explain
from headrace.streams.bus.repairs import repair_aiokafka

repair_aiokafka()

Options = Mapping[str, Any]

_CONNECTION = (
    *("client_id", "request_timeout_ms", "security_protocol", "ssl_context"),
    *("sasl_mechanism", "sasl_plain_username", "sasl_plain_password"),
)


@contextlib.contextmanager
def mapped_errors(tried: str) -> Iterator[None]:
    """Raise what aiokafka and the network raise as ours; ours, and cancellation, pass.

    Args:
        tried: What the body does, the beginning of the message: ``"reading a[0]@7"``.

    Raises:
        RetryableError, FatalError: by the table in `errors`.
    """
    try:
        yield
    except HeadraceError:
        raise
    except (KafkaError, ConsumerStoppedError, IllegalOperation, OSError, TimeoutError) as error:
        raise explain(error, tried) from error


@contextlib.asynccontextmanager
async def started(client: Any, options: Options, tried: str) -> AsyncIterator[Any]:
    """A client that is connected, and closed in the end; its errors mapped.

    aiokafka only logs why it could not connect at first; one connection more tells.
    """
    close = client.stop if isinstance(client, AIOKafkaConsumer) else client.close
    try:
        with mapped_errors(tried):
            try:
                await client.start()
            except KafkaConnectionError:
                await connect(options, tried)
                raise
            yield client
    finally:
        await close()


async def connect(options: Options, tried: str) -> float:
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
        took_ms = await connect(options, "connecting to the bus") * 1000
    except BusUnavailableError as error:
        return BusCheck("unreachable", str(error))
    except HeadraceError as error:
        return BusCheck("refused", str(error))
    return BusCheck("answers", f"the bus at {servers} answers in {took_ms:.1f} ms", took_ms)


@contextlib.asynccontextmanager
async def lone_consumer(options: Options, tried: str, **more: Any) -> AsyncIterator[Any]:
    """A connected consumer that never joins a group and never commits by itself."""
    client = AIOKafkaConsumer(
        **options,
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=EVENT_LIMIT_BYTES,
        **more,
    )
    async with started(client, options, tried) as consumer:
        yield consumer


async def all_parts(consumer: Any, topics: Sequence[str]) -> list[TopicPartition]:
    """Every partition of the topics, by a look at all: asking by name might create one."""
    found = await consumer._client.fetch_all_metadata()
    counts = {topic: found.partitions_for_topic(topic) or () for topic in topics}
    for topic, numbers in counts.items():
        if not numbers:
            raise TopicError(f"topic {topic!r} is not on the bus; create it, or correct [topics]")
    return [TopicPartition(topic, number) for topic in topics for number in sorted(counts[topic])]
