"""What every consumer must keep, and two that do not."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest

from headrace.schemas.errors import FatalError
from headrace.streams.client import Consumer
from headrace.streams.client.marks import PredictionMarks, Verdict
from headrace.streams.client.predictions import Predictions


def make(world, kind=Consumer, **options):
    """A consumer of the world's predictions, quick to commit."""
    settings = {"group": "g", "start": "earliest", "commit_every_s": 0.0, **options}
    return kind(world.bus, world.topic, **settings)


async def crash(consumer) -> None:
    """End it as a kill does: it commits nothing more."""
    consumer._ledger.held.clear()
    await consumer.__aexit__(None, None, None)


async def take(consumer, count: int) -> list[int]:
    """Source offsets of the next `count` predictions; the last one stays in hand."""
    return [(await anext(consumer)).source_offset for _ in range(count)]


async def rest(consumer) -> list[int]:
    """Source offsets of everything that still comes within a moment."""
    got = []
    with suppress(TimeoutError):
        while True:
            async with asyncio.timeout(0.6):
                got.append((await anext(consumer)).source_offset)
    return got


async def once_in_order(world, kind):
    """Every prediction of a partition is delivered once and in order."""
    await world.publish(range(50))
    async with make(world, kind) as consumer:
        assert await rest(consumer) == list(range(50))


async def repeats_dropped(world, kind):
    """What a restarted worker publishes again is dropped, however old it is."""
    async with make(world, kind) as consumer:
        await world.publish(range(3000))
        await world.publish(range(1, 3100))
        await world.publish([0, 1, 2])
        assert await rest(consumer) == list(range(3100))
        assert consumer.counts.repeats == 3002


async def unfinished_again(world, kind):
    """A prediction that was handed over and not finished comes again after a crash."""
    await world.publish(range(10))
    consumer = make(world, kind)
    async with asyncio.timeout(20):
        await consumer.__aenter__()
        assert await take(consumer, 5) == [0, 1, 2, 3, 4]
    await crash(consumer)

    async with make(world, kind) as again:
        seen = await rest(again)
    assert 4 in seen
    assert seen == list(range(seen[0], 10))


async def finished_not_again(world, kind):
    """What was finished before a clean end does not come again, not even as a repeat."""
    await world.publish(range(10))
    async with make(world, kind) as consumer:
        await take(consumer, 6)
        consumer.done()
    await world.publish(range(3, 12))

    async with make(world, kind) as again:
        assert await rest(again) == [6, 7, 8, 9, 10, 11]


async def amendments(world, kind):
    """A higher revision supersedes, a lower or equal one is dropped; also after a restart."""
    await world.publish(range(4))
    async with make(world, kind) as consumer:
        await take(consumer, 4)
        await world.publish([2], rev=2)
        amended = await anext(consumer)
        assert (amended.source_offset, amended.rev, amended.supersedes) == (2, 2, True)
        await world.publish([2], rev=1)
        await world.publish([2], rev=2)
        await world.publish([2], rev=0)
        assert await rest(consumer) == []

    await world.publish([2], rev=2)
    async with make(world, kind) as again:
        assert await rest(again) == []
        await world.publish([2], rev=3)
        assert (await anext(again)).rev == 3


async def cancelled_waits(world, kind):
    """Cancelling a wait loses nothing."""
    async with make(world, kind) as consumer:
        got = []
        for offset in range(20):
            waiting = asyncio.ensure_future(anext(consumer))
            await asyncio.sleep(0)
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                got.append((await waiting).source_offset)
            await world.publish([offset])
        assert got + await rest(consumer) == list(range(20))


async def two_members(world, kind):
    """Members share the partitions: everything comes, and what was finished not again."""
    await world.publish(range(20))
    await world.publish(range(100, 120), 1)
    async with make(world, kind) as one:
        first = await take(one, 8)
        one.done()
        async with make(world, kind) as two:
            got = await asyncio.gather(rest(one), rest(two))
    assert sorted(first + got[0] + got[1]) == [*range(20), *range(100, 120)]


CHECKS = [
    once_in_order,
    repeats_dropped,
    unfinished_again,
    finished_not_again,
    amendments,
    cancelled_waits,
    two_members,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_consumer_keeps(world, check):
    """`Consumer` keeps every rule, whether or not the bus keeps notes."""
    await check(world, Consumer)


class HorizonMarks(PredictionMarks):
    """Drops repeats by a set of the last thousand ids."""

    def __init__(self):
        super().__init__()
        self._ids = {}

    def accept(self, item):
        if item.id in self._ids:
            return Verdict.REPEAT
        self._ids[item.id] = None
        if len(self._ids) > 1000:
            del self._ids[next(iter(self._ids))]
        return Verdict.NEW


class HorizonConsumer(Consumer):
    """Forgets what it saw."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)

        class Content(Predictions):
            def marks(self):
                return HorizonMarks()

        self._ledger.content = Content()


class EagerConsumer(Consumer):
    """Commits what it is about to hand over."""

    async def _next(self, *, whole):
        items = await super()._next(whole=whole)
        self.done()
        await self.commit()
        return items


@pytest.mark.parametrize(
    ("bad", "check"), [(HorizonConsumer, repeats_dropped), (EagerConsumer, unfinished_again)]
)
async def test_known_bad_consumer_fails(world, bad, check):
    """The suite is able to fail: by a horizon, and by a commit before the work."""
    with pytest.raises(AssertionError):
        await check(world, bad)


async def test_commit_follows_the_callers_work(world):
    """Nothing is committed beyond what the caller asked past."""
    await world.publish(range(5))
    async with make(world) as consumer:
        await take(consumer, 3)
        await consumer.commit()
        assert world.bus.committed[world.topic, "g", 0].offset == 2
        consumer.done()
        await consumer.commit()
        assert world.bus.committed[world.topic, "g", 0].offset == 3


async def test_break_leaves_the_item_in_hand_unfinished(world):
    """A loop left by `break` gets its last item again, unless it says `done`."""
    await world.publish(range(5))
    async with make(world) as consumer:
        async for prediction in consumer:
            if prediction.source_offset == 2:
                break
    async with make(world) as again:
        assert (await anext(again)).source_offset == 2


async def test_body_that_raises_gets_the_item_again(world):
    """An exception in the loop's body leaves its item unfinished."""
    await world.publish(range(3))

    async def body() -> None:
        async with make(world) as consumer:
            async for prediction in consumer:
                1 / (1 - prediction.source_offset)

    with pytest.raises(ZeroDivisionError):
        await body()
    async with make(world) as again:
        assert await rest(again) == [1, 2]


async def test_batches_are_finished_by_asking_for_the_next(world):
    """A batch is committed when the next is asked for, and not before."""
    await world.publish(range(10))
    async with make(world, max_rows=4) as consumer:
        batches = consumer.batches()
        sizes = [len(await anext(batches)), len(await anext(batches))]
        await consumer.commit()
    assert sizes == [4, 4]
    assert world.bus.committed[world.topic, "g", 0].offset == 4


async def test_failed_commit_is_made_up_for(world):
    """A commit that fails loses nothing; the next one covers it."""
    await world.publish(range(10))
    world.bus.failing_commits = 3
    async with make(world) as consumer:
        assert await rest(consumer) == list(range(10))
    assert world.bus.committed[world.topic, "g", 0].offset == 10


async def test_new_group_keeps_its_start(world):
    """A group that began at the end and finished nothing goes on from there, not from later."""
    await world.publish(range(5))
    consumer = make(world, start="latest")
    await consumer.__aenter__()
    with suppress(TimeoutError):
        await asyncio.wait_for(anext(consumer), 0.05)
    await crash(consumer)
    await world.publish([5])

    async with make(world, start="latest") as again:
        assert await rest(again) == [5]


async def test_source_made_anew_is_no_repeat(world, caplog):
    """Lower offsets of a later broker time are another log: delivered, with one line."""
    await world.publish(range(10))
    async with make(world) as consumer:
        assert await rest(consumer) == list(range(10))
        for offset in range(3):
            await world.publish([offset], times_ms={"ingest": 50_000 + offset})
        assert await rest(consumer) == [0, 1, 2]
    assert [record.getMessage() for record in caplog.records] == [
        f"record {world.topic}[0]@10 begins another source log"
    ]


async def test_records_that_are_no_predictions_are_skipped(world, caplog):
    """One bad record costs a line with its coordinates, not its neighbours."""
    await world.publish([0])
    await world.put(0, [b"secret", b'{"id": 1}', b"", b"[" * 100_000])
    await world.publish([1])
    async with make(world) as consumer:
        assert await rest(consumer) == [0, 1]
    assert consumer.counts.invalid == 4
    assert f"{world.topic}[0]@1" in caplog.text
    assert "secret" not in caplog.text


async def test_overdue_predictions_are_flagged_and_counted(world):
    """A prediction whose event is older than the deadline says so."""
    await world.publish([0], times_ms={"device": 900})
    await world.publish([1], times_ms={"device": 1000})
    async with make(world, deadline_ms=50, now=lambda: 1.0) as consumer:
        overdue = [(await anext(consumer)).overdue, (await anext(consumer)).overdue]
    assert overdue == [True, False]
    assert consumer.counts.overdue == 1


async def test_overdue_callback_takes_them_out_of_the_loop(world):
    """Given a callback, the loop sees only what came in time; both are finished in order."""
    for offset in range(6):
        await world.publish([offset], times_ms={"device": 1000 if offset % 2 else 900})
    late = []
    options = {"deadline_ms": 50, "now": lambda: 1.0, "on_overdue": late.append}
    async with make(world, **options) as consumer:
        assert await rest(consumer) == [1, 3, 5]
    assert [p.source_offset for p in late] == [0, 2, 4]
    assert world.bus.committed[world.topic, "g", 0].offset == 6


async def test_perceived_latency_is_arrival_less_device_time(world):
    """The median of the consumer's latencies is the age its predictions arrived with."""
    await world.publish(range(100), times_ms={"device": 880})
    async with make(world, now=lambda: 1.0) as consumer:
        got = [await anext(consumer) for _ in range(100)]
    assert got[0].latency_ms == 120
    assert consumer.latency.quantile(0.5) == pytest.approx(120, rel=0.03)


async def test_no_follow_ends_at_the_end(world):
    """With `follow` false the loop ends at what the topic held on opening."""
    await world.publish(range(7))
    async with make(world, follow=False, group=None) as consumer:
        assert [p.source_offset async for p in consumer] == list(range(7))
    assert not world.bus.committed


async def test_expired_records_are_counted(world):
    """Records that retention deleted unread are a gap with a count, not a silence."""
    await world.publish(range(10))
    async with make(world) as consumer:
        await take(consumer, 3)
        consumer.done()
    world.bus.topics[world.topic].begin[0] = 8
    async with make(world) as again:
        assert await rest(again) == [8, 9]
    assert again.counts.expired == 5


async def test_degraded_is_one_word(world):
    """Refused, rebuilt and stale answers say so by properties."""
    await world.publish([0], score=None, tier="refused")
    await world.publish([1], flags=["rebuilt"])
    await world.publish([2], flags=["stale"])
    await world.publish([3])
    async with make(world) as consumer:
        got = [await anext(consumer) for _ in range(4)]
    assert [p.degraded for p in got] == [True, True, True, False]
    assert (got[0].refused, got[1].rebuilt, got[2].stale) == (True, True, True)


async def test_the_wire_cannot_set_what_the_consumer_judges(world):
    """Fields of the arrival are set by the consumer, whatever the record says."""
    await world.publish([0], supersedes=True, overdue=True, latency_ms=-5.0)
    async with make(world, now=lambda: 1.5) as consumer:
        got = await anext(consumer)
    assert (got.supersedes, got.overdue, got.latency_ms) == (False, False, 500.0)


async def test_unopened_consumer_says_so(world):
    """Iterating without `async with` is refused with the remedy."""
    with pytest.raises(FatalError, match="async with"):
        await anext(make(world))


async def test_idle_consumer_waits_without_spinning(world):
    """Waiting for predictions costs next to no processor time."""
    async with make(world, commit_every_s=1.0) as consumer:
        used_s = time.process_time()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(consumer), 0.6)
        assert time.process_time() - used_s < 0.1
