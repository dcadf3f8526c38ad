"""Batches in and acknowledgements out, on a real Kafka and on the embedded bus."""

from __future__ import annotations

import asyncio
import logging

import pytest
from integration.transport.harness import DEADLINE_S, Bus, Recorder, running, until, until_async

from headrace.schemas.errors import FatalError, RetryableError
from headrace.streams.transport.stage import Delivered

pytestmark = pytest.mark.integration


async def test_every_record_once_and_in_order(either_bus: Bus) -> None:
    """Each partition arrives whole and in order, and its end is committed at the stop."""
    topic = await either_bus.topic()
    rows = [12_000, 1, 300, 0]
    await either_bus.fill(topic, rows)
    seen = Recorder()
    stage = either_bus.stage(topic, seen, batch_rows=1000)
    async with running(stage):
        await until(lambda: seen.total == sum(rows), "all records")
        assert stage.columnar
        assert stage.assignment == {(topic, partition) for partition in range(4)}
    for partition, count in enumerate(rows):
        assert seen.values.get(partition, []) == list(range(count))
        assert seen.offsets.get(partition, []) == list(range(count))
    assert max(size for _, size in seen.sizes) <= 1000
    committed = await either_bus.committed(f"g-{topic}", topic)
    assert [offset or 0 for offset in committed] == rows
    assert seen.calls[0][0] == "assigned"
    assert seen.calls[-1][0] == "revoked"


async def test_restart_goes_on_where_the_commit_stands(either_bus: Bus) -> None:
    """A second run of the group sees nothing of the first and everything after it."""
    topic = await either_bus.topic(1)
    await either_bus.fill(topic, [500])
    first, second = Recorder(), Recorder()
    async with running(either_bus.stage(topic, first)):
        await until(lambda: first.total == 500, "the first records")
    await either_bus.fill(topic, [30])
    async with running(either_bus.stage(topic, second)):
        await until(lambda: second.total == 30, "the later records")
    assert second.offsets[0] == list(range(500, 530))


async def test_quiet_in_normal_operation(
    transport_kafka: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    """Start, work, commit and stop log nothing at warning or above.

    A broker's first groups of all wait for their coordinator, which aiokafka warns of: here it is
    asked for the group before.
    """
    topic = await transport_kafka.topic()
    await transport_kafka.fill(topic, [100] * 4)
    await transport_kafka.committed(f"g-{topic}", topic)
    seen = Recorder()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        async with running(transport_kafka.stage(topic, seen)):
            await until(lambda: seen.total == 400, "all records")
    loud = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [(record.name, record.getMessage()) for record in loud] == []
    assert not logging.getLogger().handlers or all(
        "mode" not in type(handler).__module__ for handler in logging.getLogger().handlers
    )


class Raising(Recorder):
    """Raises on the first tries of some batches."""

    def __init__(self, error: Exception, every: int) -> None:
        super().__init__()
        self.error, self.every, self.count, self.raised = error, every, 0, 0

    async def batch(self, delivered: Delivered) -> None:
        self.count += 1
        if self.count % self.every == 0:
            self.raised += 1
            raise self.error
        await super().batch(delivered)


@pytest.mark.parametrize("error", [ValueError("boom"), RetryableError("later", retry_after_s=0.01)])
async def test_raising_body_gets_its_batch_again(transport_kafka: Bus, error: Exception) -> None:
    """A batch whose body raised is offered again before the batches after it, and not lost."""
    topic = await transport_kafka.topic(2)
    await transport_kafka.fill(topic, [4000, 4000])
    seen = Raising(error, every=5)
    async with running(transport_kafka.stage(topic, seen, batch_rows=250)):
        await until(lambda: seen.total == 8000, "all records")
    assert seen.raised >= 5
    assert seen.values == {0: list(range(4000)), 1: list(range(4000))}


async def test_fatal_error_ends_the_run_and_commits_nothing_more(transport_kafka: Bus) -> None:
    """A FatalError of the handler is raised by run(), and finished work stays uncommitted."""

    class Fatal(Recorder):
        async def batch(self, delivered: Delivered) -> None:
            delivered.done()
            raise FatalError("the model is wrong")

    topic = await transport_kafka.topic(1)
    await transport_kafka.fill(topic, [10])
    stage = transport_kafka.stage(topic, Fatal(), commit_interval_s=30.0)
    with pytest.raises(FatalError, match="the model is wrong"):
        await asyncio.wait_for(stage.run(), DEADLINE_S)
    assert await transport_kafka.committed(f"g-{topic}", topic, 1) == [None]


class Holding(Recorder):
    """Keeps batches open until told which to finish."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[Delivered] = []

    async def batch(self, delivered: Delivered) -> None:
        self.keep(delivered)
        self.open.append(delivered)


async def test_commit_is_the_longest_finished_prefix(transport_kafka: Bus) -> None:
    """Batches finished behind an open one are not committed before it is."""
    topic = await transport_kafka.topic(1)
    await transport_kafka.fill(topic, [100])
    seen = Holding()
    stage = transport_kafka.stage(topic, seen, batch_rows=10, max_in_flight=4, concurrency=3)
    group = f"g-{topic}"
    async with running(stage):
        await until(lambda: len(seen.open) == 4, "four open batches")
        for delivered in seen.open[1:]:
            delivered.done()
        await asyncio.sleep(0.5)  # several commit intervals: a wrong commit would have come
        assert await transport_kafka.committed(group, topic, 1) == [None]
        assert len(seen.open) == 4
        assert stage.in_flight == {(topic, 0): 4}
        seen.open[0].done()

        async def prefix() -> bool:
            return await transport_kafka.committed(group, topic, 1) == [40]

        await until_async(prefix, "the prefix is committed")
        await until(lambda: len(seen.open) == 8, "the next batches")
        assert stage.last_commit_age_s is not None
        for delivered in seen.open:
            delivered.done()


async def test_bound_of_one_partition_leaves_others_going(transport_kafka: Bus) -> None:
    """A partition at its bound is handed nothing more while the others run to their end."""

    class OneStuck(Holding):
        async def batch(self, delivered: Delivered) -> None:
            if delivered.records.partition == 0:
                await super().batch(delivered)
            else:
                self.keep(delivered)
                delivered.done()

    topic = await transport_kafka.topic()
    await transport_kafka.fill(topic, [20_000] * 4)
    seen = OneStuck()
    stage = transport_kafka.stage(topic, seen, batch_rows=500, max_in_flight=2)
    async with running(stage):
        await until(lambda: sum(len(v) for p, v in seen.values.items() if p) == 60_000, "others")
        assert len(seen.values[0]) == 1000
        assert 0 < stage.held_bytes < stage.held_limit_bytes
        for delivered in list(seen.open):
            delivered.done()
        await until(lambda: len(seen.values[0]) == 2000, "the stuck one goes on")
        while len(seen.values[0]) < 20_000 or stage.held_bytes:
            for delivered in seen.open:
                delivered.done()
            await asyncio.sleep(0.01)


async def test_paused_partition_gets_nothing_until_resumed(transport_kafka: Bus) -> None:
    """A pause holds one partition; resumed, it goes on without a gap or a repeat."""

    class Pausing(Recorder):
        async def assigned(self, partitions: frozenset[tuple[str, int]]) -> None:
            stage.pause((topic, 2))

        async def batch(self, delivered: Delivered) -> None:
            await super().batch(delivered)
            if delivered.records.partition == 1 and delivered.first == 0:
                stage.pause((topic, 1))

    topic = await transport_kafka.topic(3)
    await transport_kafka.fill(topic, [30_000] * 3)
    seen = Pausing()
    stage = transport_kafka.stage(topic, seen, batch_rows=1000)
    async with running(stage):
        await until(lambda: len(seen.values.get(0, [])) == 30_000, "the first")
        assert 2 not in seen.values
        stage.resume((topic, 2))
        await until(lambda: len(seen.values.get(2, [])) == 30_000, "the one held from the start")
        assert len(seen.values[1]) == 1000
        stage.resume((topic, 1))
        await until(lambda: len(seen.values[1]) == 30_000, "the paused one")
    assert seen.values[1] == list(range(30_000))


async def test_backlog_of_one_partition_does_not_starve_others(transport_kafka: Bus) -> None:
    """While a partition works off its backlog, records of another get through among them."""

    class Slow(Recorder):
        async def batch(self, delivered: Delivered) -> None:
            await asyncio.sleep(0.002)
            await super().batch(delivered)

    topic = await transport_kafka.topic(2)
    await transport_kafka.fill(topic, [100_000, 5])
    seen = Slow()
    async with running(transport_kafka.stage(topic, seen, batch_rows=500)):
        await until(lambda: len(seen.values.get(1, [])) == 5, "the small partition")
        assert len(seen.values.get(0, [])) < 50_000


async def test_stop_with_a_hung_body_is_bounded(transport_kafka: Bus) -> None:
    """A body that never returns costs shutdown_s, and its batch stays unacknowledged."""

    class Hung(Recorder):
        async def batch(self, delivered: Delivered) -> None:
            if delivered.first >= 20:
                await asyncio.sleep(3600)
            await super().batch(delivered)

    topic = await transport_kafka.topic(1)
    await transport_kafka.fill(topic, [100])
    seen = Hung()
    stage = transport_kafka.stage(topic, seen, batch_rows=10, shutdown_s=0.5)
    run = asyncio.create_task(stage.run())
    await until(lambda: seen.total == 20, "the first batches")
    await stage.stop()
    await asyncio.wait_for(run, DEADLINE_S)  # the body would take an hour
    assert await transport_kafka.committed(f"g-{topic}", topic, 1) == [20]


async def test_stop_lets_open_work_finish(transport_kafka: Bus) -> None:
    """Batches that the handler finishes while it is revoked are committed."""

    class Finishing(Holding):
        async def revoked(self, partitions: frozenset[tuple[str, int]]) -> None:
            await asyncio.sleep(0.2)
            for delivered in self.open:
                delivered.done()

    topic = await transport_kafka.topic(1)
    await transport_kafka.fill(topic, [100])
    seen = Finishing()
    async with running(transport_kafka.stage(topic, seen, batch_rows=10, max_in_flight=3)):
        await until(lambda: len(seen.open) == 3, "open batches")
    assert await transport_kafka.committed(f"g-{topic}", topic, 1) == [30]
