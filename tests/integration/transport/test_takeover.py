"""Workers that come, go and die while records flow."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from integration.transport.harness import DEADLINE_S, Bus, Recorder, running, until, until_async

from headrace.schemas.errors import OwnershipLostError
from headrace.streams.transport.stage import Delivered, Partition

pytestmark = [pytest.mark.integration, pytest.mark.slow]

_WORKER = Path(__file__).with_name("worker.py")
Spans = dict[int, list[tuple[int, int]]]


@contextmanager
def worker(bus: Bus, topic: str, ledger: Path, pace_s: float) -> Iterator[subprocess.Popen[bytes]]:
    kind = "embedded" if bus.embedded else "kafka"
    command = [sys.executable, "-W", "error", str(_WORKER), bus.address, kind, topic]
    process = subprocess.Popen([*command, str(ledger), str(pace_s)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def spans(ledger: Path) -> Spans:
    found: Spans = defaultdict(list)
    if ledger.exists():
        for line in ledger.read_text().splitlines():
            partition, first, stop = map(int, line.split())
            found[partition].append((first, stop))
    return found


def covered(*ledgers: Path) -> dict[int, set[int]]:
    offsets: dict[int, set[int]] = defaultdict(set)
    for ledger in ledgers:
        for partition, parts in spans(ledger).items():
            for first, stop in parts:
                offsets[partition].update(range(first, stop))
    return offsets


def rows(ledger: Path) -> int:
    return sum(stop - first for parts in spans(ledger).values() for first, stop in parts)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_killed_worker_loses_nothing(either_bus: Bus, tmp_path: Path, seed: int) -> None:
    """After SIGKILL the next worker begins at the committed offset, and none is missing."""
    topic = await either_bus.topic()
    count = 4000
    await either_bus.fill(topic, [count] * 4)
    first, second = tmp_path / "first", tmp_path / "second"
    goal = random.Random(seed).randrange(1000, 9000)
    with worker(either_bus, topic, first, 0.005) as process:
        await until(lambda: rows(first) > goal, "the first worker is under way")
        process.send_signal(signal.SIGKILL)
        process.wait()
    committed = await either_bus.committed(f"g-{topic}", topic)
    with worker(either_bus, topic, second, 0.0):
        await until(lambda: sum(map(len, covered(first, second).values())) == 4 * count, "all")
    for partition, offset in enumerate(committed):
        again = spans(second)[partition]
        if again:
            assert again[0][0] == (offset or 0)


async def test_second_worker_joins_and_leaves_under_load(
    transport_kafka: Bus, tmp_path: Path
) -> None:
    """With partitions handed over twice in good order, nothing is missing and nothing repeated."""
    topic = await transport_kafka.topic()
    count = 30_000
    await transport_kafka.fill(topic, [count] * 4)
    first, second = tmp_path / "first", tmp_path / "second"
    with worker(transport_kafka, topic, first, 0.01) as stays:
        await until(lambda: rows(first) > 2000, "the first worker is under way")
        with worker(transport_kafka, topic, second, 0.01) as leaves:
            await until(lambda: rows(second) > 2000, "the second worker has a share")
            leaves.send_signal(signal.SIGTERM)
            assert leaves.wait(DEADLINE_S) == 0
        await until(lambda: sum(map(len, covered(first, second).values())) == 4 * count, "all", 90)
        stays.send_signal(signal.SIGTERM)
        assert stays.wait(DEADLINE_S) == 0
    assert rows(first) + rows(second) == 4 * count


async def test_a_worker_without_a_share_is_told_so(transport_kafka: Bus) -> None:
    """More workers than partitions: who has none gets ready, too, for none."""
    topic = await transport_kafka.topic(1)
    busy, idle = Recorder(), Recorder()
    stages = [transport_kafka.stage(topic, seen) for seen in (busy, idle)]
    async with running(stages[0]), running(stages[1]):
        await until(
            lambda: (
                all(stage.ready for stage in stages)
                and sum(len(stage.assignment) for stage in stages) == 1
                and stages[0].generation == stages[1].generation
            ),
            "both have settled",
        )
        told = [seen.calls[-1] for seen in (busy, idle)]
    assert {len(partitions) for _, partitions in told} == {0, 1}
    assert [call for call, _ in told] == ["assigned"] * 2


async def test_revocation_does_not_wait_for_a_hung_body(transport_kafka: Bus) -> None:
    """A hung body is cut off at the deadline; the newcomer gets its batch, the agent goes on."""

    class Hung(Recorder):
        hang = True

        async def batch(self, delivered: Delivered) -> None:
            if self.hang and delivered.first == 0:
                await asyncio.sleep(3600)
            await super().batch(delivered)

    topic = await transport_kafka.topic(2)
    await transport_kafka.fill(topic, [50, 50])
    hung, newcomer = Hung(), Recorder()
    options = {"batch_rows": 50, "shutdown_s": 0.5}
    one = transport_kafka.stage(topic, hung, **options)
    async with running(one):
        await until(lambda: sum(one.in_flight.values()) == 2, "a hung body")
        async with running(transport_kafka.stage(topic, newcomer, **options)):
            await until(lambda: newcomer.total == 50, "the newcomer has its share")
            hung.hang = False
            await until(lambda: one.ready and len(one.assignment) == 1, "both have settled")
        await until(lambda: hung.total + newcomer.total >= 100, "the rest")
        assert {v for r in (hung, newcomer) for p in r.values for v in [p]} == {0, 1}


async def test_commit_of_a_former_owner_is_refused(transport_kafka: Bus) -> None:
    """A commit outside the group's current generation raises OwnershipLostError."""
    topic = await transport_kafka.topic(1)
    await transport_kafka.fill(topic, [10])
    seen = Recorder()
    stage = transport_kafka.stage(topic, seen)
    async with running(stage):
        await until(lambda: seen.total == 10, "all records")
        await stage.commit((topic, 0), 7)
        assert await stage.committed((topic, 0)) == 7
        assert await stage.log_range((topic, 0)) == (0, 10)
        with pytest.raises(OwnershipLostError):
            await stage.commit((topic, 5), 1)
        stage._consumer().bus.kafka._coordinator.generation -= 1
        with pytest.raises(OwnershipLostError):
            await stage.commit((topic, 0), 10)

        async def rejoined() -> bool:
            return len([call for call, _ in seen.calls if call == "assigned"]) == 2

        await until_async(rejoined, "the worker joined again")


async def test_assigned_is_awaited_and_cancelled_by_a_revocation(transport_kafka: Bus) -> None:
    """No batch comes before `assigned` returned; a stop in the midst of it cancels it."""

    class Loading(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.loaded, self.cancelled = asyncio.Event(), False

        async def assigned(self, partitions: frozenset[Partition]) -> None:
            try:
                await self.loaded.wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise

    topic = await transport_kafka.topic(1)
    await transport_kafka.fill(topic, [10])
    seen = Loading()
    stage = transport_kafka.stage(topic, seen)
    async with running(stage):
        await until(lambda: stage.assignment == {(topic, 0)}, "the assignment")
        await asyncio.sleep(0.3)  # a batch that wrongly came would be here
        assert not seen.total
        assert not stage.ready
        seen.loaded.set()
        await until(lambda: seen.total == 10, "the records")
        assert stage.ready
    late = Loading()
    unready = transport_kafka.stage(topic, late)
    async with running(unready):
        await until(lambda: unready.assignment == {(topic, 0)}, "the assignment")
    assert late.cancelled
