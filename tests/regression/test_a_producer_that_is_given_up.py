"""A publisher that began anew after an error left the producer before it running, for ever.

It was to send what other lanes had given it, did not get to within a second, and kept its task and
its connections. An outage of hours left one behind every few seconds, and the other lanes waited
for it as long as a request may take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError

from headrace.schemas.errors import BusUnavailableError
from headrace.schemas.protocols import Output
from headrace.schemas.settings import BusSettings
from headrace.schemas.topics import TopicSpec
from headrace.streams.bus.admin import ensure_topics
from headrace.streams.bus.options import client_options
from headrace.streams.transport.publish import KafkaPublisher

PRODUCE = 0
"""Number of the request on the wire."""

LEADERLESS = 1


@pytest.fixture
def bus(tansu_url: str) -> str:
    """The session's bus, started outside any event loop."""
    return tansu_url


@pytest.fixture
async def topic(bus: str, unique: Callable[[str], str]) -> str:
    name = unique("given.up")
    await ensure_topics(
        client_options(BusSettings(url=bus)),
        [TopicSpec(name, "given", 2, 3_600_000, "derived", ours=True)],
    )
    return name


async def test_nothing_of_it_is_left_and_nobody_waits(
    bus: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One lane's partition has no leader, another waits for an answer that does not come."""
    asked = asyncio.Event()
    send, close = AIOKafkaConnection.send, AIOKafkaConnection.close
    broken: list[asyncio.Future[None]] = []

    def unanswered(self: AIOKafkaConnection, request: object, **options: object) -> object:
        if getattr(request, "API_KEY", None) != PRODUCE:
            return send(self, request, **options)
        asked.set()
        nothing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        broken.append(nothing)
        return nothing

    def closed(self: AIOKafkaConnection, *args: object, **options: object) -> object:
        while broken:
            broken.pop().set_exception(KafkaConnectionError("closed"))
        return close(self, *args, **options)

    settings = BusSettings(url=bus, request_timeout_ms=1000)
    publisher = KafkaPublisher(client_options(settings), idempotent=False)
    await publisher.start()
    producer = publisher._producer
    assert producer is not None
    leader = producer.client.cluster.leader_for_partition
    with monkeypatch.context() as patched:
        patched.setattr(
            producer.client.cluster,
            "leader_for_partition",
            lambda part: None if part.partition == LEADERLESS else leader(part),
        )
        patched.setattr(AIOKafkaConnection, "send", unanswered)
        patched.setattr(AIOKafkaConnection, "close", closed)
        waiting = asyncio.create_task(publisher.publish([Output(topic, 0, None, [b"waits"])]))
        await asyncio.wait_for(asked.wait(), 30)
        with pytest.raises(BusUnavailableError):
            await publisher.publish([Output(topic, LEADERLESS, None, [b"a"])])
        done, _ = await asyncio.wait({waiting}, timeout=20)

    assert done
    with pytest.raises(BusUnavailableError):
        waiting.result()
    assert producer._sender.sender_task.done()
    assert not any(conn.connected() for conn in producer.client._conns.values())
    await publisher.publish([Output(topic, 0, None, [b"goes on"])])
    await publisher.stop()
