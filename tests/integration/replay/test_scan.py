"""The fast reader of a stretch reads what the plain one does, and says what is gone."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from headrace.schemas.batch import RecordBatch
from headrace.schemas.errors import StateError, TopicError
from headrace.streams.bus.lone_reader import lone_reader
from headrace.streams.bus.reads import read_range
from headrace.streams.replay.locate import locate
from headrace.streams.replay.ranges import Span, Wanted

Row = tuple[int, int, bytes | None, bytes | None, tuple[Any, ...]]


def rows(batches: list[RecordBatch]) -> list[Row]:
    return [
        (
            int(batch.offsets[row]),
            int(batch.log_times_ms[row]),
            batch.keys[row],
            batch.values[row],
            tuple(batch.headers[row]) if batch.headers else (),
        )
        for batch in batches
        for row in range(len(batch))
    ]


async def test_any_stretch_is_the_plain_readers(logs: Any) -> None:
    """Any range, in responses of any size, on either bus: the same records as `read_range`."""
    topic = await logs.topic(2)
    await logs.write(topic, 1, [b"v" * (i % 300) for i in range(3000)], batch=170)
    chance = random.Random(4)
    async with lone_reader(logs.options, topic) as reader:
        assert await reader.edges() == {0: (0, 0), 1: (0, 3000)}
        for _ in range(4):
            start, stop = sorted(chance.sample(range(3001), 2))
            size = chance.choice([1, 5000, 1 << 20])
            found = [b async for b in reader.read(1, start, stop, fetch_bytes=size)]
            plain = [b async for b in read_range(logs.options, topic, 1, start, stop)]
            assert rows(found) == rows(plain)
            assert len(rows(found)) == stop - start


async def test_broker_times_choose_a_stretch(logs: Any) -> None:
    """What was written between two times is read; the stretch holds no more than it must."""
    topic = await logs.topic()
    await logs.write(topic, 0, [b"old"] * 5)
    await asyncio.sleep(0.02)
    between = time.time_ns() // 1_000_000
    await asyncio.sleep(0.02)
    await logs.write(topic, 0, [b"new"] * 5)
    now_ms = time.time_ns() // 1_000_000 + 1000
    async with lone_reader(logs.options, topic) as reader:
        late = await locate(
            logs.options, reader, Wanted(by="broker", start_ms=between), now_ms=now_ms
        )
        none = await locate(
            logs.options, reader, Wanted(by="broker", start_ms=now_ms - 1), now_ms=now_ms
        )

    assert (late.spans, late.missing) == ((Span(0, 5, 10),), ())
    assert (none.spans, none.missing) == ((), ())


async def test_what_retention_took_is_said(kafka_logs: Any) -> None:
    """Deleted records are missing from a range of offsets and of times, and cannot be read."""
    topic = await kafka_logs.topic()
    await kafka_logs.write(topic, 0, [b"v"] * 20)
    admin = AIOKafkaAdminClient(**kafka_logs.options)
    await admin.start()
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=8)})
    await admin.close()
    now_ms = time.time_ns() // 1_000_000
    async with lone_reader(kafka_logs.options, topic) as reader:
        asked = Wanted(offsets={0: (3, 12)})
        plan = await locate(kafka_logs.options, reader, asked, now_ms=now_ms)
        timed = await locate(kafka_logs.options, reader, Wanted(start_ms=1), now_ms=now_ms)

        assert plan.spans == (Span(0, 8, 12),)
        assert [(m.why, m.start, m.stop) for m in plan.missing] == [("expired", 3, 8)]
        assert timed.spans == (Span(0, 8, 20),)
        assert [m.why for m in timed.missing] == ["expired"]
        with pytest.raises(StateError, match="retention"):
            [b async for b in reader.read(0, 3, 12)]


async def test_a_topic_that_is_not_there_is_an_error(tansu_logs: Any) -> None:
    """And is not made by asking."""
    with pytest.raises(TopicError, match="not on the bus"):
        async with lone_reader(tansu_logs.options, "no-such-topic"):
            pass
