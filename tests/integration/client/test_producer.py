"""The producer's promises on a real bus: the embedded one and Apache Kafka."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from headrace.schemas.errors import BusUnavailableError, TopicError
from headrace.schemas.settings import BusSettings
from headrace.streams.client import Producer, Record
from headrace.streams.client.kafka_bus import KafkaBus
from headrace.streams.client.partition import Partitioner


class Whole:
    """Takes every record as it is."""

    async def assigned(self, starts):
        return {partition: start.begin for partition, start in starts.items()}

    async def revoked(self, partitions):
        raise AssertionError("nobody shares this reader")


async def records_of(world, count: int) -> list:
    """The first `count` records of the topic as (partition, key, value, headers)."""
    found = []
    reader = KafkaBus(world.options).reader(world.topic, group=None, start="earliest")
    await reader.start(Whole())
    try:
        async with asyncio.timeout(30):
            while len(found) < count:
                for batch in await reader.fetch(max_rows=10_000, timeout_s=0.5):
                    headers = batch.headers or [()] * len(batch)
                    rows = zip(batch.keys, batch.values, headers, strict=True)
                    found += [(batch.partition, *row) for row in rows]
    finally:
        await reader.stop()
    return found


async def test_every_acknowledged_record_is_on_the_bus_in_order(world):
    """Receipts name the records' coordinates; a key keeps its partition and its order."""
    async with Producer(world.settings, world.topic, linger_ms=1) as producer:
        receipts = [await producer.send(b"d%d" % (n % 5), b"%d" % n) for n in range(500)]
        sources = [(await receipt)[0] for receipt in receipts]
    found = await records_of(world, 500)
    assert len(found) == 500
    place = Partitioner(2).of
    for device in range(5):
        own = [(p, int(value)) for p, key, value, _ in found if key == b"d%d" % device]
        assert {p for p, _ in own} == {place(b"d%d" % device)}
        assert [n for _, n in own] == list(range(device, 500, 5))
    assert len({(s.partition, s.offset) for s in sources}) == 500


async def test_trace_header_is_on_every_record(world):
    """A traceparent that is passed in is on the bus as a record header."""
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with Producer(world.settings, world.topic) as producer:
        await producer.send_many([Record(b"a"), Record(b"b")], traceparent=given)
    headers = [dict(row[3]) for row in await records_of(world, 2)]
    assert headers == [{"traceparent": given.encode()}] * 2


async def test_large_batches_are_cut_to_what_a_request_holds(world):
    """Twelve megabytes in one call arrive whole."""
    rows = [Record(msgspec.json.encode("x" * 1_000_000), b"k") for _ in range(12)]
    async with Producer(world.settings, world.topic, trace=False) as producer:
        assert len(await (await producer.send_many(rows))) == 12
    assert len(await records_of(world, 12)) == 12


async def test_idempotent_where_the_bus_is(world, request):
    """On Kafka the producer is idempotent; the embedded bus has no such producer."""
    async with Producer(world.settings, world.topic) as producer:
        assert producer.idempotent == ("kafka_url" in request.node.name)


async def test_missing_topic_is_one_line(world):
    """A topic that is not there is said, with the remedy."""
    with pytest.raises(TopicError, match="headrace topics apply"):
        await Producer(world.settings, world.topic + "-absent").__aenter__()


async def test_bus_that_is_away_is_retryable():
    """A bus nobody answers at is `BusUnavailableError`, and nothing is left open."""
    with pytest.raises(BusUnavailableError):
        await Producer(BusSettings(url="kafka://127.0.0.1:1"), "t").__aenter__()
