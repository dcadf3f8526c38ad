"""The offset that a new owner reads waits for transactions that are not decided."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import OffsetAndMetadata

from headrace.schemas.errors import BusUnavailableError
from headrace.schemas.settings import BusSettings
from headrace.streams.bus.options import client_options
from headrace.streams.transport import stable_offsets
from headrace.streams.transport.stable_offsets import StableOffsets, stable_offset

pytestmark = pytest.mark.integration


@pytest.fixture
def kafka(kafka_url: str) -> str:
    """The session's Kafka, started outside any event loop."""
    return kafka_url


@pytest.fixture
async def clients(kafka: str, unique: Callable[[str], str]) -> AsyncIterator[tuple[Any, Any, Any]]:
    """A member of a group, a transactional producer, and a partition."""
    options, topic = client_options(BusSettings(url=kafka)), unique("source")
    admin = AIOKafkaAdminClient(**options)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1)])
    finally:
        await admin.close()
    member = AIOKafkaConsumer(**options, group_id=unique("group"), enable_auto_commit=False)
    member.assign([TopicPartition(topic, 0)])
    producer = AIOKafkaProducer(**options, transactional_id=topic)
    async with member, producer:
        yield member, producer, TopicPartition(topic, 0)


async def test_an_undecided_transaction_is_waited_for(
    clients: tuple[Any, Any, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Until its end the stable offset is unknown, where the plain one is that from before."""
    member, producer, part = clients
    offsets = StableOffsets()
    assert await stable_offset(member._coordinator, part) is None
    await member.commit({part: OffsetAndMetadata(3, "press.enrich.f00d")})
    assert await stable_offset(member._coordinator, part) == 3
    await producer.begin_transaction()
    await producer.send_offsets_to_transaction({part: 8}, member._group_id)

    assert await member.committed(part) == 3
    with pytest.raises(BusUnavailableError, match="waits for a transaction"):
        await stable_offset(member._coordinator, part)
    for limit_s, told in ((60.0, 0), (0.0, 1), (0.0, 1)):
        monkeypatch.setattr(stable_offsets, "LONG_S", limit_s)
        with pytest.raises(BusUnavailableError):
            await offsets.offset(member._coordinator, part)
        lines = [line for line in caplog.messages if "topics undecided" in line]
        assert len(lines) == told
    assert f"{part.topic}[0] waits" in lines[0]
    assert "noted 'press.enrich.f00d'" in lines[0]
    await producer.commit_transaction()
    for _ in range(100):
        try:
            assert await offsets.offset(member._coordinator, part) == 8
            return
        except BusUnavailableError:
            continue
    raise AssertionError("never stable")
