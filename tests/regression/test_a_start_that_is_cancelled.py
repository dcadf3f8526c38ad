"""A client that is cancelled while it starts leaves no connection open."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.metadata import MetadataRequest

from headrace.streams.bus.repairs import repair_aiokafka

repair_aiokafka()


async def test_its_first_connection_is_closed(
    tansu_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled while it waits for the first answer."""
    waiting, opened = asyncio.Event(), []
    send = AIOKafkaConnection.send

    async def hanging(self: AIOKafkaConnection, request: object, **options: object) -> object:
        if isinstance(request, MetadataRequest):
            opened.append(self)
            waiting.set()
            await asyncio.Event().wait()
        return await send(self, request, **options)

    monkeypatch.setattr(AIOKafkaConnection, "send", hanging)
    client = AIOKafkaClient(bootstrap_servers=tansu_url.removeprefix("kafka://"))
    starting = asyncio.create_task(client.bootstrap())
    await asyncio.wait_for(waiting.wait(), 10)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await client.close()

    assert [connection.connected() for connection in opened] == [False]
