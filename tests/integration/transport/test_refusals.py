"""What `run` raises when the bus does not play along."""

from __future__ import annotations

import asyncio
import socket
from contextlib import closing

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from integration.transport.harness import Bus, Recorder, running, until, until_async

from headrace.schemas.errors import BusRefusedError, BusUnavailableError, TopicError
from headrace.streams.transport.stage import StageTransport

pytestmark = pytest.mark.integration


async def test_missing_topic_is_named(either_bus: Bus) -> None:
    """A topic that is not there ends the start with its name, rather than being ignored."""
    with pytest.raises(TopicError, match="'nowhere'"):
        await asyncio.wait_for(either_bus.stage("nowhere", Recorder()).run(), 20)


async def test_no_broker_is_unavailable() -> None:
    """Nobody on the port: BusUnavailableError, at once."""
    with closing(socket.socket()) as unheard:
        unheard.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unheard.getsockname()[1]}"
        stage = Bus(address, embedded=False).stage("any", Recorder())
        with pytest.raises(BusUnavailableError):
            await asyncio.wait_for(stage.run(), 20)


async def test_log_in_is_used_and_checked(transport_kafka: Bus) -> None:
    """The right password reads, a wrong one is BusRefusedError."""
    if transport_kafka.sasl_address is None:
        pytest.skip("the given Kafka has no known SASL listener")
    topic = await transport_kafka.topic(1)
    await transport_kafka.fill(topic, [10])

    def stage(password: str, seen: Recorder) -> StageTransport:
        return StageTransport(
            group=f"g-{topic}",
            topics=[topic],
            client_options={
                "bootstrap_servers": transport_kafka.sasl_address,
                "security_protocol": "SASL_PLAINTEXT",
                "sasl_mechanism": "PLAIN",
                "sasl_plain_username": "reader",
                "sasl_plain_password": password,
            },
            embedded=False,
            handler=seen,
        )

    seen = Recorder()
    async with running(stage("right", seen)):
        await until(lambda: seen.total == 10, "all records")
    with pytest.raises(BusRefusedError):
        await asyncio.wait_for(stage("wrong", Recorder()).run(), 20)


async def test_offset_beyond_the_log_is_another_log(transport_kafka: Bus) -> None:
    """A committed offset above the log's end ends the stage, to be taken over anew."""

    class Beyond(Recorder):
        async def assigned(self, partitions: frozenset[tuple[str, int]]) -> None:
            stage.start_at((topic, 0), 99)

    topic = await transport_kafka.topic(1)
    await transport_kafka.fill(topic, [10])
    stage = transport_kafka.stage(topic, Beyond())
    with pytest.raises(BusUnavailableError, match="another log"):
        await asyncio.wait_for(stage.run(), 20)


async def test_expired_records_are_counted(transport_kafka: Bus) -> None:
    """A committed offset that the log has dropped is a counted gap, and reading goes on."""
    topic = await transport_kafka.topic(1)
    await transport_kafka.fill(topic, [10])
    first, second = Recorder(), Recorder()
    async with running(transport_kafka.stage(topic, first)):
        await until(lambda: first.total == 10, "the first records")
    await transport_kafka.fill(topic, [100])
    admin = AIOKafkaAdminClient(**transport_kafka.options)
    await admin.start()
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=60)})
    await admin.close()
    stage = transport_kafka.stage(topic, second)
    async with running(stage):
        await until(lambda: second.total == 50, "what is left")
        assert stage.expired == {(topic, 0): 50}
    assert second.offsets[0] == list(range(60, 110))


async def test_start_at_the_end_of_the_log(transport_kafka: Bus) -> None:
    """start="latest" skips what is there, and a handler's start_at is stronger than both."""

    class From(Recorder):
        async def assigned(self, partitions: frozenset[tuple[str, int]]) -> None:
            stage.start_at((topic, 1), 3)

    topic = await transport_kafka.topic(2)
    await transport_kafka.fill(topic, [10, 10])
    seen = From()
    stage = transport_kafka.stage(topic, seen, start="latest")
    async with running(stage):
        await until(lambda: stage.ready and seen.total == 7, "the named start")

        async def kept() -> bool:
            return await transport_kafka.committed(f"g-{topic}", topic, 2) == [10, 10]

        await until_async(kept, "the start at the end is committed, so that a crash keeps it")
        await transport_kafka.fill(topic, [2])
        await until(lambda: seen.total == 9, "the new records")
    assert seen.offsets == {1: list(range(3, 10)), 0: [10, 11]}
