"""The bus and the store of a benchmark: those that are named, or ones started here and ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from headrace.streams.local.embedded_bus import EmbeddedBus
from headrace.streams.local.embedded_store import EmbeddedStore
from headrace.streams.local.kafka_config import KafkaOptions
from headrace.streams.local.kafka_install import install_kafka
from headrace.streams.local.local_kafka import LocalKafka

# The local Kafka is tuned to start quickly; a benchmark wants it as a server is run: every
# compiler, a full heap, and Kafka's own pause for the members of a new group to come together.
SERVER = KafkaOptions(
    heap_mb=1024,
    java_options=("-XX:TieredStopAtLevel=4",),
    properties={
        "group.initial.rebalance.delay.ms": "3000",
        "num.network.threads": "3",
        "num.io.threads": "8",
    },
)

_STARTED: set[int] = set()


def started() -> tuple[int, ...]:
    """Process ids of the bus and the store that run for this benchmark; none it was only told."""
    return tuple(sorted(_STARTED))


@asynccontextmanager
async def kafka(bus: str | None) -> AsyncIterator[str]:
    """host:port of a real Kafka: the one named, else one started for this run and removed."""
    if bus is not None:
        yield bus
        return
    await install_kafka(print)
    broker = LocalKafka(options=SERVER)
    url = await broker.start()
    pid = broker.service.pid
    _STARTED.add(pid)
    try:
        yield url.removeprefix("kafka://")
    finally:
        _STARTED.discard(pid)
        await broker.stop()


@asynccontextmanager
async def embedded_bus() -> AsyncIterator[str]:
    """host:port of an embedded bus of its own."""
    broker = EmbeddedBus()
    url = await broker.start()
    try:
        yield url.removeprefix("kafka://")
    finally:
        await broker.stop()


@asynccontextmanager
async def store(url: str | None) -> AsyncIterator[str]:
    """URL of a store: the one named, else one started for this run, with an append-only file."""
    if url is not None:
        yield url
        return
    with TemporaryDirectory(prefix="bench-store-") as folder:
        server = EmbeddedStore(folder=Path(folder))
        found = await server.start()
        pid = server.service.pid
        _STARTED.add(pid)
        try:
            yield found
        finally:
            _STARTED.discard(pid)
            await server.stop()
