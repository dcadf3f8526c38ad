"""The columnar fetch lane reads the same records as aiokafka's public way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from integration.transport.harness import Bus, Recorder, running, until

from headrace.schemas.errors import FatalError
from headrace.streams.transport import columnar
from headrace.streams.transport.options import REQUIRE_COLUMNAR
from headrace.streams.transport.stage import Delivered

pytestmark = pytest.mark.integration

Row = tuple[int, int, bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]


class Rows(Recorder):
    """Keeps whole records."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []

    @property
    def total(self) -> int:
        return len(self.rows)

    async def batch(self, delivered: Delivered) -> None:
        r = delivered.records
        headers = r.headers if r.headers is not None else [()] * len(r)
        columns = zip(
            r.offsets.tolist(), r.log_times_ms.tolist(), r.keys, r.values, headers, strict=True
        )
        self.rows += [(o, t, k, v, tuple(h)) for o, t, k, v, h in columns]
        delivered.done()


async def public(bus: Bus, topic: str, isolation: str) -> list[Row]:
    """The records of partition 0 by `getmany`."""
    consumer = AIOKafkaConsumer(
        **bus.options, isolation_level=isolation, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        tp = TopicPartition(topic, 0)
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        rows: list[Row] = []
        while await consumer.position(tp) < end:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                rows += [(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in records]
        return rows
    finally:
        await consumer.stop()


async def columns(bus: Bus, topic: str, count: int, *, read_committed: bool) -> list[Row]:
    """The same by the stage."""
    seen = Rows()
    stage = bus.stage(
        topic, seen, read_committed=read_committed, group=f"g-{topic}-{read_committed}"
    )
    async with running(stage):
        await until(lambda: seen.total >= count, f"{count} records")
        await asyncio.sleep(0.2)  # records that should not come would come now
        assert stage.columnar
    return seen.rows


async def mixed(bus: Bus, topic: str, **options: Any) -> None:
    """Records with and without keys, values and headers, in batches of several sizes."""
    producer = AIOKafkaProducer(**bus.options, **options)
    await producer.start()
    try:
        for i in range(400):
            await producer.send(
                topic,
                None if i % 7 == 1 else b"value %d" % i * (i % 50),
                key=None if i % 3 == 0 and i % 7 != 1 else b"key %d" % i,
                headers=[("h", b"%d" % i), ("n", b"")] if i % 5 == 0 else [],
                timestamp_ms=1_700_000_000_000 + 13 * i,
                partition=0,
            )
            if i % 90 == 0:
                await producer.flush()
    finally:
        await producer.stop()


@pytest.mark.parametrize("codec", [None, "gzip", "lz4", "zstd", "snappy"])
@pytest.mark.parametrize("clock", ["CreateTime", "LogAppendTime"])
async def test_parity_over_codecs_and_clocks(
    transport_kafka: Bus, codec: str | None, clock: str
) -> None:
    """Keys, tombstones, headers, offsets and times are the same, whatever the compression."""
    topic = await transport_kafka.topic(1, **{"message.timestamp.type": clock})
    await mixed(transport_kafka, topic, compression_type=codec)
    expected = await public(transport_kafka, topic, "read_uncommitted")
    assert len(expected) == 400
    assert await columns(transport_kafka, topic, 400, read_committed=False) == expected


async def transactions(bus: Bus, topic: str, tmp: str) -> int:
    """Committed and aborted transactions and plain records, interleaved; how many are committed."""
    plain = AIOKafkaProducer(**bus.options)
    one = AIOKafkaProducer(**bus.options, transactional_id=f"{tmp}-1")
    two = AIOKafkaProducer(**bus.options, transactional_id=f"{tmp}-2")
    committed = 0
    for producer in (plain, one, two):
        await producer.start()
    try:
        for turn in range(12):
            await plain.send_and_wait(topic, b"plain %d" % turn, partition=0)
            await one.begin_transaction()
            await two.begin_transaction()
            for i in range(5):
                await one.send_and_wait(topic, b"one %d %d" % (turn, i), partition=0)
                await two.send_and_wait(topic, b"two %d %d" % (turn, i), partition=0)
            await (one.abort_transaction() if turn % 2 else one.commit_transaction())
            await (two.abort_transaction() if turn % 3 else two.commit_transaction())
            committed += 1 + 5 * (turn % 2 == 0) + 5 * (turn % 3 == 0)
    finally:
        for producer in (plain, one, two):
            await producer.stop()
    return committed


async def test_parity_over_transactions(transport_kafka: Bus) -> None:
    """read_committed leaves out exactly the aborted records, read_uncommitted only the markers."""
    topic = await transport_kafka.topic(1)
    committed = await transactions(transport_kafka, topic, topic)
    for isolation, count in (("read_committed", committed), ("read_uncommitted", 132)):
        expected = await public(transport_kafka, topic, isolation)
        assert len(expected) == count
        found = await columns(
            transport_kafka, topic, count, read_committed=isolation == "read_committed"
        )
        assert found == expected


async def test_open_transaction_is_waited_for(transport_kafka: Bus) -> None:
    """Records of an open transaction, and those behind it, come only after its commit."""
    topic = await transport_kafka.topic(1)
    writer = AIOKafkaProducer(**transport_kafka.options, transactional_id=topic)
    await writer.start()
    seen = Rows()
    try:
        async with running(transport_kafka.stage(topic, seen, read_committed=True)):
            await writer.begin_transaction()
            await writer.send_and_wait(topic, b"0", partition=0)
            await transport_kafka.fill(topic, [3])
            await asyncio.sleep(0.5)  # what wrongly came would be here
            assert seen.rows == []
            await writer.commit_transaction()
            await until(lambda: seen.total == 4, "all four")
        assert [row[0] for row in seen.rows] == [0, 1, 2, 3]
    finally:
        await writer.stop()


async def test_public_way_when_the_lane_is_absent(
    either_bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the private attributes the same records come, by the public way."""
    monkeypatch.setattr(columnar, "missing", lambda: ["Fetcher._records"])
    topic = await either_bus.topic(2)
    await either_bus.fill(topic, [9000, 10])
    seen = Recorder()
    stage = either_bus.stage(topic, seen, batch_rows=500)
    async with running(stage):
        await until(lambda: seen.total == 9010, "all records")
        assert not stage.columnar
    assert seen.values == {0: list(range(9000)), 1: list(range(10))}


async def test_absent_lane_is_an_error_where_it_is_required(
    transport_kafka: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HEADRACE_REQUIRE_COLUMNAR_FETCH=1 turns the absence of the lane into an error at start."""
    monkeypatch.setattr(columnar, "missing", lambda: ["Fetcher._records"])
    monkeypatch.setenv(REQUIRE_COLUMNAR, "1")
    topic = await transport_kafka.topic(1)
    with pytest.raises(FatalError, match=r"Fetcher\._records"):
        await asyncio.wait_for(transport_kafka.stage(topic, Recorder()).run(), 20)
