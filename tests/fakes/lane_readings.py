"""Lanes to read at chosen moments: a fake one, and the real one held at gates."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from fakes import delivery_world as world

from headrace.feature_store.memory import MemoryStore
from headrace.streams.delivery.counters import Counters
from headrace.streams.delivery.lane import Lane
from headrace.streams.delivery.ports import StagePorts
from headrace.streams.delivery.share import DeadLetterShare

STEPS = ("takeover", "process", "publish", "checkpoint")
"""Steps of a takeover and one batch without online rows, in order."""

RECORDS = 3


@dataclass
class FakeLane:
    """Readings that are set by hand."""

    partition: int = 0
    ready: bool = False
    step: tuple[str, float] | None = None
    given: int = 0
    position: int = 0


@dataclass
class FakeDriver:
    """Moves a fake lane from step to step."""

    lane: FakeLane = field(default_factory=FakeLane)

    async def reach(self, name: str) -> None:
        """Be in this step."""
        self.lane.step = (name, time.monotonic())

    async def finish(self, name: str) -> None:
        """Be done with this step, before the next."""
        if name in ("takeover", STEPS[-1]):
            self.lane.step = None
        self.lane.ready = True
        self.lane.position = RECORDS if name == STEPS[-1] else 0

    async def end(self) -> None:
        """Nothing runs."""


class Batch:
    """Handed to the lane; nobody waits for it."""

    def __init__(self) -> None:
        self.records = world.records_of([b"a"] * RECORDS)

    def done(self) -> None:
        pass


class LaneDriver:
    """The real lane over the fake world, held at a gate in every step."""

    def __init__(self) -> None:
        self._reached = {name: asyncio.Event() for name in STEPS}
        self._gates = {name: asyncio.Event() for name in STEPS}
        self.failures: list[BaseException] = []
        agent, store = world.FoldAgent(), MemoryStore()
        topic = world.MemoryTopic(lambda name: None)
        ports = StagePorts(
            agent=agent,
            partitions=1,
            ttl_s={},
            store=store,
            source=world.MemoryLog([b"a"] * RECORDS),
            group=world.Member(world.MemoryGroup(0), 0),
            publisher=topic,
            counters=Counters(),
            share=DeadLetterShare(1.0, least_events=2),
        )
        for name, owner, method in (
            ("takeover", store, "claim"),
            ("process", agent, "process"),
            ("publish", topic, "publish"),
            ("checkpoint", store, "write"),
        ):
            setattr(owner, method, self._held(name, getattr(owner, method)))
        self.lane: Any = Lane(ports, world.TOPIC, 0, fail=self.failures.append)
        self.lane.start(None)
        self.lane.offer(Batch())

    def _held(
        self, name: str, step: Callable[..., Awaitable[object]]
    ) -> Callable[..., Awaitable[object]]:
        async def held(*args: object, **more: object) -> object:
            self._reached[name].set()
            await self._gates[name].wait()
            return await step(*args, **more)

        return held

    async def reach(self, name: str) -> None:
        """Be in this step."""
        await asyncio.wait_for(self._reached[name].wait(), 5)

    async def finish(self, name: str) -> None:
        """Be done with this step; the next begins at once, and the last leaves nothing in hand."""
        self._gates[name].set()
        if name == STEPS[-1]:
            async with asyncio.timeout(5):
                while self.lane.step is not None:
                    await asyncio.sleep(0)

    async def end(self) -> None:
        """Nothing runs."""
        for gate in self._gates.values():
            gate.set()
        await self.lane.stop()
