"""Two pipelines that take turns, a stretch of events each: what they differ in, alone.

Both live as long as the measurement does. One is sent so many events and predicts them all while
the other has nothing to do, then it is the other's turn; so that what the machine does meanwhile,
another's load or a slower clock, falls on both alike, and no turn finds what another left half
done. What is compared is the CPU that a stage took for its events, which the kernel counts in
nanoseconds.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from job import DEVICES, PARTITIONS, events
from latency import PATIENCE_S
from profile_stage import StageProcess, make_topics
from sides import Where
from telemetry_log import create, send

from headrace.schemas.topics import topics_of
from headrace.streams.workers.jobs import STAGES

LOOK_S = 0.01
REST_S = 0.05
"""After the last prediction: what follows it, a checkpoint, is of the same turn."""

WARM_PAIRS = 2
"""Turns that do not count: caches, and what a process does once."""

T = TypeVar("T")
DRAWS = 1000
Pair = tuple[float, int, float, int]
"""CPU seconds and events of one side's turn, then of the other's."""

Clocked = tuple[float, float]
"""CPU seconds of watching, and of the whole process."""


class Side:
    """A pipeline whose stages can be told apart.

    Args:
        where: Bus, store, and a telemetry topic of its own.
        traced_every: One in so many of its events has a sampled trace.

    Attributes:
        where: As given.
        sent: Events that its telemetry holds.
    """

    def __init__(self, where: Where, *, traced_every: int) -> None:
        self._traced_every = traced_every
        self._workers = {stage: StageProcess(stage, where) for stage in STAGES}
        self._parts: list[TopicPartition] = []
        self._told = dict.fromkeys(STAGES, 0)
        self.where, self.sent = where, 0

    async def begin(self, consumer: AIOKafkaConsumer) -> None:
        """Start it, and have it predict an event of every device.

        Raises:
            SystemExit: it ended, or did not predict them in time.
        """
        await create(self.where.bus, self.where.telemetry)
        topic = topics_of(await make_topics(self.where)).predictions.name
        self._parts = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        for worker in self._workers.values():
            worker.start()
        await self._predict(consumer, DEVICES)
        for stage, worker in self._workers.items():
            lines = worker.watching.read_text("ascii") if worker.watching.exists() else ""
            self._told[stage] = lines.count("\n")

    @property
    def output(self) -> str:
        """Topic of its predictions."""
        return self._parts[0].topic

    async def turn(self, consumer: AIOKafkaConsumer, count: int) -> dict[str, float]:
        """CPU seconds of each stage for so many events.

        Raises:
            SystemExit: it ended, or did not predict them in time.
        """
        before = self._cpu_s()
        await self._predict(consumer, count)
        return {stage: cpu_s - before[stage] for stage, cpu_s in self._cpu_s().items()}

    def clocked(self) -> dict[str, Clocked]:
        """Of each stage that is watched what that took of its CPU, since its first events."""
        found = {}
        for stage, worker in self._workers.items():
            if worker.watching.exists():
                rows = [line.split() for line in worker.watching.read_text("ascii").splitlines()]
                first, last = rows[min(self._told[stage], len(rows) - 1)], rows[-1]
                spent = [float(b) - float(a) for a, b in zip(first, last, strict=True)]
                found[stage] = (spent[0], spent[1])
        return found

    def stop(self) -> None:
        """End its workers."""
        for worker in self._workers.values():
            worker.stop()

    async def _predict(self, consumer: AIOKafkaConsumer, count: int) -> None:
        rows, self.sent = events(count, first=self.sent), self.sent + count
        where = self.where
        await send(where.bus, where.telemetry, rows, traced_every=self._traced_every)
        deadline = time.monotonic() + PATIENCE_S
        while sum((await consumer.end_offsets(self._parts)).values()) < self.sent:
            for worker in self._workers.values():
                worker.status()
            if time.monotonic() > deadline:
                raise SystemExit(f"{where.run} did not predict {self.sent} events")
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(REST_S)

    def _cpu_s(self) -> dict[str, float]:
        return {stage: ran_s(worker.pid) for stage, worker in self._workers.items()}


async def take_turns(
    one: Side, other: Side, bus: str, count: int, *, seconds: float, seed: int
) -> dict[str, list[Pair]]:
    """Turns of `count` events for so long; pairs of them by stage.

    Args:
        one: The first side.
        other: The one compared with it.
        bus: host:port.
        count: Events of a turn.
        seconds: How long.
        seed: Of who comes first in each pair.

    Raises:
        SystemExit: a side did not predict its events, or there was no time for a pair.
    """
    draw, found = random.Random(seed), list[tuple[dict[str, float], dict[str, float]]]()
    consumer = AIOKafkaConsumer(bootstrap_servers=bus)
    await consumer.start()
    try:
        for side in (one, other):
            await side.begin(consumer)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            spent = {}
            for side in draw.sample((one, other), 2):
                spent[side] = await side.turn(consumer, count)
            found.append((spent[one], spent[other]))
    finally:
        one.stop()
        other.stop()
        await consumer.stop()
    if len(found) <= WARM_PAIRS:
        raise SystemExit(f"{seconds:g} s were enough for {len(found)} pairs of turns; give it more")
    return {
        stage: [(a[stage], count, b[stage], count) for a, b in found[WARM_PAIRS:]]
        for stage in STAGES
    }


def ran_s(pid: int) -> float:
    """CPU time of a process's living threads, seconds; by the kernel's count of nanoseconds."""
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += int((task / "schedstat").read_text().split()[0])
        except OSError:
            continue  # it has just ended
    return found / 1e9


def added(pairs: Sequence[Pair]) -> float:
    """What an event of the second side costs more than one of the first, as a share.

    The median of what each pair says: a turn that something disturbed counts as one.

    Example:
        >>> round(added([(1.0, 100, 1.1, 100), (2.0, 200, 1.1, 100), (1.0, 100, 9.0, 100)]), 3)
        0.1
    """
    return statistics.median((b / m) / (a / n) - 1 for a, n, b, m in pairs)


def interval(
    values: Sequence[T], of: Callable[[Sequence[T]], float], *, seed: int = 0
) -> tuple[float, float]:
    """Where 95 of 100 bootstrap draws of whole pairs put a figure.

    Args:
        values: Pairs, or differences of pairs.
        of: The figure of them.
        seed: Of the draws.

    Example:
        >>> interval([1.0, 1.0, 1.0], statistics.mean)
        (1.0, 1.0)
    """
    draw = random.Random(seed)
    found = sorted(of(draw.choices(values, k=len(values))) for _ in range(DRAWS))
    return found[round(0.025 * DRAWS)], found[round(0.975 * DRAWS) - 1]


def median_us(pairs: Sequence[Pair], side: int) -> float:
    """Median over turns of the CPU per event of the first side (0) or the other (1), µs."""
    return statistics.median(pair[2 * side] / pair[2 * side + 1] * 1e6 for pair in pairs)
