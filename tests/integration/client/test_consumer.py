"""The consumer's promises on a real bus: the embedded one and Apache Kafka."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest

from headrace.schemas.errors import BusUnavailableError, SettingsError, TopicError
from headrace.schemas.settings import BusSettings
from headrace.streams.client import Consumer

DEADLINE_S = 60.0


def make(world, **options):
    """A consumer of the world's predictions, quick to commit."""
    settings = {"group": world.topic, "start": "earliest", "commit_every_s": 0.0, **options}
    return Consumer(world.settings, world.topic, **settings)


async def take(consumer, count: int) -> list[int]:
    """Source offsets of the next `count` predictions; the last one stays in hand."""
    async with asyncio.timeout(DEADLINE_S):
        return [(await anext(consumer)).source_offset for _ in range(count)]


async def silence(consumer) -> list[int]:
    """Source offsets of what comes within a second, expected to be nothing."""
    got = []
    with suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            while True:
                got.append((await anext(consumer)).source_offset)
    return got


async def test_restart_goes_on_after_what_was_finished(world):
    """A restarted consumer neither repeats nor loses: offset and marks are one commit."""
    await world.publish(range(100))
    async with make(world) as consumer:
        assert await take(consumer, 60) == list(range(60))
        consumer.done()
    await world.publish(range(20, 130))

    async with make(world) as again:
        assert await take(again, 70) == list(range(60, 130))
        assert await silence(again) == []
        assert again.counts.repeats == 80


async def test_item_in_hand_comes_again_after_a_kill(world):
    """What was handed over and not finished is delivered again to the next consumer."""
    await world.publish(range(10))
    killed = make(world)
    await killed.__aenter__()
    assert await take(killed, 5) == [0, 1, 2, 3, 4]
    killed._ledger.held.clear()
    await killed.__aexit__(None, None, None)

    async with make(world) as again:
        first, *rest = await take(again, 6)
    assert first <= 4
    assert rest == list(range(first + 1, first + 6))


async def test_amendment_survives_a_restart(world):
    """Revisions seen before a restart are repeats after it."""
    await world.publish(range(3))
    async with make(world) as consumer:
        await take(consumer, 3)
        await world.publish([1], rev=2)
        async with asyncio.timeout(DEADLINE_S):
            amended = await anext(consumer)
        assert (amended.source_offset, amended.rev, amended.supersedes) == (1, 2, True)
        consumer.done()
    await world.publish([1], rev=2)
    await world.publish([1], rev=1)
    async with make(world) as again:
        assert await silence(again) == []
        assert again.counts.repeats == 2


async def test_no_follow_reads_what_is_there_and_ends(world):
    """Without a group and `follow`, reading ends by itself and commits nothing."""
    await world.publish(range(50))
    await world.publish(range(7), 1)
    async with make(world, group=None, follow=False) as consumer, asyncio.timeout(DEADLINE_S):
        got = [prediction.source async for prediction in consumer]
    assert len(got) == 57


async def test_latest_is_after_everything_there(world):
    """Beginning at the end gives nothing of before, and a group keeps that place."""
    await world.publish(range(5))
    async with make(world, start="latest") as consumer:
        assert await silence(consumer) == []
    await world.publish([5])
    async with make(world, start="latest") as again:
        assert await take(again, 1) == [5]


async def test_missing_topic_is_one_line(world):
    """A topic that is not there is said, with the remedy, and quickly."""
    with pytest.raises(TopicError, match="headrace topics apply"):
        await Consumer(world.settings, world.topic + "-absent").__aenter__()


async def test_start_that_is_no_place_is_one_line(world):
    """A start that is neither a word nor a time is refused before anything connects."""
    with pytest.raises(SettingsError, match="latest, earliest or a time"):
        make(world, start="yesterday")


async def test_bus_that_is_away_is_retryable_and_quick():
    """A bus nobody answers at is `BusUnavailableError` within seconds."""
    began_s = time.monotonic()
    with pytest.raises(BusUnavailableError):
        await Consumer(BusSettings(url="kafka://127.0.0.1:1"), "t").__aenter__()
    assert time.monotonic() - began_s < 10


async def test_members_of_a_group_share_the_partitions(kafka_world):
    """A second member takes over a partition; nothing is lost, finished items come no more."""
    world = kafka_world
    await world.publish(range(50))
    await world.publish(range(50), 1)
    seen: list[str] = []

    async def work(consumer, enough: asyncio.Event) -> None:
        async for prediction in consumer:
            seen.append(prediction.source)
            if len(set(seen)) == 300:
                enough.set()

    enough = asyncio.Event()
    async with make(world) as one:
        first = asyncio.create_task(work(one, enough))
        async with make(world) as two:
            second = asyncio.create_task(work(two, enough))
            await world.publish(range(50, 150))
            await world.publish(range(50, 150), 1)
            async with asyncio.timeout(DEADLINE_S):
                await enough.wait()
            first.cancel()
            second.cancel()
            await asyncio.gather(first, second, return_exceptions=True)
            assert two.counts.delivered > 0
    assert len(set(seen)) == 300
    assert len(seen) - 300 <= 4, "no more than the items in hand when the members changed"


async def test_kafka_keeps_marks_in_the_commit(kafka_world):
    """On Kafka the marks are the note of the offset's own commit: no second place, no horizon."""
    from aiokafka.admin import AIOKafkaAdminClient

    await kafka_world.publish(range(10))
    async with make(kafka_world) as consumer:
        await take(consumer, 10)
        consumer.done()
    admin = AIOKafkaAdminClient(**kafka_world.options)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(kafka_world.topic)
    finally:
        await admin.close()
    [note] = [mark.metadata for part, mark in found.items() if part.partition == 0]
    assert note == ('{"headrace":1,"marks":{"headrace.press.telemetry.v1[0]":[9,10009,{}]}}')
