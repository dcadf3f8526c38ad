"""The door to the bus on real brokers: topics, raw reads, first positions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from headrace.schemas.batch import record_crc
from headrace.schemas.errors import OwnershipLostError, StateError, TopicError
from headrace.schemas.settings import BusSettings
from headrace.schemas.topics import TopicSpec
from headrace.streams.bus import admin, connection, groups, reads
from headrace.streams.bus.options import client_options

HOUR_MS = 3_600_000
Unique = Callable[[str], str]


def spec(name: str, partitions: int = 2, *, ours: bool = True) -> TopicSpec:
    return TopicSpec(name, "telemetry", partitions, HOUR_MS, "raw", ours)


def options_of(url: str) -> dict[str, object]:
    return client_options(BusSettings(url=url, request_timeout_ms=5000))


async def send(options, topic, values, *, partition=0, headers=None, transaction=None, abort=False):
    """Publish values in order, within a transaction where one is named."""
    more = {"transactional_id": transaction} if transaction else {}
    async with AIOKafkaProducer(**options, **more) as producer:
        if transaction:
            await producer.begin_transaction()
        for value in values:
            await producer.send_and_wait(
                topic, value, key=b"k", partition=partition, headers=headers
            )
        if transaction:
            await (producer.abort_transaction() if abort else producer.commit_transaction())


async def read(options, topic, start, stop, **more):
    return [b async for b in reads.read_range(options, topic, 0, start, stop, **more)]


async def test_topics_are_made_once_with_their_partitions(bus_url: str, unique: Unique) -> None:
    """Creating topics twice, also at once, leaves each with its partition count."""
    options, specs = options_of(bus_url), [spec(unique("a")), spec(unique("b"), 3)]
    await asyncio.gather(admin.ensure_topics(options, specs), admin.ensure_topics(options, specs))
    await admin.ensure_topics(options, specs)
    found = await admin.describe_topics(options, [s.name for s in specs])
    assert {s.name: s.partitions for s in specs} == {n: t.partitions for n, t in found.items()}


async def test_kafka_topics_keep_log_time_and_retention(kafka_url: str, unique: Unique) -> None:
    """On Kafka a topic of ours has the broker's time, its retention and its record limit."""
    options, topic = options_of(kafka_url), unique("configured")
    await admin.ensure_topics(options, [spec(topic)])
    configs = (await admin.describe_topics(options, [topic]))[topic].configs
    assert configs["message.timestamp.type"] == "LogAppendTime"
    assert configs["retention.ms"] == str(HOUR_MS)
    assert configs["segment.ms"] == str(HOUR_MS // 4)
    assert int(configs["max.message.bytes"]) >= 8 << 20


async def test_another_partition_count_is_refused_with_the_remedy(
    bus_url: str, unique: Unique
) -> None:
    """A topic found with another partition count is fatal and names the setting to change."""
    options, topic = options_of(bus_url), unique("count")
    await admin.ensure_topics(options, [spec(topic, 2)])
    with pytest.raises(TopicError, match=r"has 2 partitions, expected 4.*topics.partitions = 2"):
        await admin.ensure_topics(options, [spec(topic, 4)])


async def test_a_missing_topic_of_others_is_not_created(bus_url: str, unique: Unique) -> None:
    """A topic that the pipeline file names must exist; asking for it does not create it."""
    options, topic = options_of(bus_url), unique("theirs")
    with pytest.raises(TopicError, match="is not on the bus; create it"):
        await admin.ensure_topics(options, [spec(topic, ours=False)])
    assert await admin.describe_topics(options, [topic]) == {}


async def test_a_range_is_read_as_columns(bus_url: str, unique: Unique) -> None:
    """A range gives exactly its records in order, with keys, values, headers and offsets."""
    options, topic = options_of(bus_url), unique("range")
    await admin.ensure_topics(options, [spec(topic)])
    values = [b"%d" % n for n in range(50)]
    await send(options, topic, values, headers=[("code", b"x")])
    batches = await read(options, topic, 10, 40)
    assert [v for b in batches for v in b.values] == values[10:40]
    assert [o for b in batches for o in b.offsets.tolist()] == list(range(10, 40))
    assert batches[0].keys[0] == b"k"
    assert batches[0].headers is not None
    assert list(batches[0].headers[0]) == [("code", b"x")]
    assert await read(options, topic, 20, 20) == []
    whole = await read(options, topic, 0, 10_000)
    assert sum(map(len, whole)) == 50


async def test_the_log_is_described(bus_url: str, unique: Unique) -> None:
    """Ranges and single records agree with what was sent; what is not there is None."""
    options, topic = options_of(bus_url), unique("log")
    await admin.ensure_topics(options, [spec(topic)])
    await send(options, topic, [b"a", b"b", b"c"], partition=1)
    assert await reads.log_ranges(options, topic) == {0: (0, 0), 1: (0, 3)}
    assert await reads.log_range(options, topic, 1) == (0, 3)
    found = await reads.last_record(options, topic, 1, 1)
    assert found is not None
    assert (found.offset, found.crc) == (1, record_crc(b"k", b"b"))
    assert await reads.last_record(options, topic, 1, 3) is None
    assert await reads.read_one(options, topic, 0, 0) is None
    with pytest.raises(TopicError, match="no partition 7"):
        await reads.log_range(options, topic, 7)
    with pytest.raises(TopicError, match="is not on the bus"):
        await reads.log_ranges(options, unique("absent"))


async def test_a_time_becomes_an_offset(bus_url: str, unique: Unique) -> None:
    """The first record at or after a time is found; after the last it is the log's end."""
    options, topic = options_of(bus_url), unique("times")
    await admin.ensure_topics(options, [spec(topic, 1)])
    # The embedded bus finds records by a time of its own, milliseconds beside the one it hands out.
    await send(options, topic, [b"a"])
    await asyncio.sleep(0.05)
    await send(options, topic, [b"b"])
    _, second_ms = (
        int(ms) for batch in await read(options, topic, 0, 2) for ms in batch.log_times_ms
    )
    assert await reads.offset_at_time(options, topic, second_ms - 20) == {0: 1}
    assert await reads.offset_at_time(options, topic, second_ms + 20) == {0: 2}
    assert await reads.offset_at_time(options, topic, 0) == {0: 0}


async def test_committed_reads_leave_aborted_records_out(kafka_url: str, unique: Unique) -> None:
    """A range that ends in transaction markers ends, and holds no aborted record."""
    options, topic = options_of(kafka_url), unique("transactions")
    await admin.ensure_topics(options, [spec(topic, 1)])
    await send(options, topic, [b"kept"], transaction=unique("t"))
    await send(options, topic, [b"aborted"], transaction=unique("t"), abort=True)
    _, end = await reads.log_range(options, topic, 0)
    assert end == 4
    committed = await read(options, topic, 0, end, read_committed=True)
    assert [v for b in committed for v in b.values] == [b"kept"]
    every = await read(options, topic, 0, end)
    assert [v for b in every for v in b.values] == [b"kept", b"aborted"]
    assert await reads.last_record(options, topic, 0, 1) is None  # a marker is no record


async def test_an_expired_start_is_an_error_not_a_gap(kafka_url: str, unique: Unique) -> None:
    """Reading from below the log's first offset is refused, with that offset in the message."""
    options, topic = options_of(kafka_url), unique("expired")
    await admin.ensure_topics(options, [spec(topic, 1)])
    await send(options, topic, [b"a", b"b", b"c"])
    from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

    client = AIOKafkaAdminClient(**options)
    await client.start()
    try:
        await client.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=2)})
    finally:
        await client.close()
    with pytest.raises(StateError, match="the log begins at 2"):
        await read(options, topic, 0, 3)
    assert await reads.last_record(options, topic, 0, 1) is None


@pytest.mark.parametrize(("start", "expected"), [("latest", 3), ("earliest", 0), (0, 0)])
async def test_a_new_group_starts_where_it_was_told(
    bus_url: str, unique: Unique, start: str | int, expected: int
) -> None:
    """Positions are committed once, for partitions without one; a second call changes nothing."""
    options, topic, group = options_of(bus_url), unique("first"), unique("group")
    await admin.ensure_topics(options, [spec(topic)])
    await send(options, topic, [b"a", b"b", b"c"])
    made = await groups.first_positions(options, group, [topic], start)
    assert made == {(topic, 0): expected, (topic, 1): 0}
    await send(options, topic, [b"d"])
    assert await groups.first_positions(options, group, [topic], "latest") == {}
    async with AIOKafkaConsumer(**options, group_id=group, enable_auto_commit=False) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        assert await consumer.committed(TopicPartition(topic, 0)) == expected


async def test_positions_of_a_live_group_are_left_alone(kafka_url: str, unique: Unique) -> None:
    """Once a member has joined, offsets from outside are refused as lost ownership."""
    options, topic, group = options_of(kafka_url), unique("live"), unique("group")
    await admin.ensure_topics(options, [spec(topic)])
    async with AIOKafkaConsumer(
        topic, **options, group_id=group, enable_auto_commit=False
    ) as member:
        await member.getmany(timeout_ms=100)
        with pytest.raises(OwnershipLostError, match="setting where group"):
            await groups.first_positions(options, group, [topic], "latest")


async def test_check_tells_what_it_found(bus_url: str) -> None:
    """A bus that is there answers in a time, in one line."""
    found = await connection.check_bus(options_of(bus_url))
    assert (found.state, "\n" in found.line) == ("answers", False)
    assert found.latency_ms is not None
    assert found.latency_ms > 0
