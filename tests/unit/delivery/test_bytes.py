"""Bytes that came in and bytes that may leave the site: counted as they are, and each once."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from fakes import delivery_world as world
from fakes.examples import EXAMPLES

from headrace.feature_store.memory import MemoryStore
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.topics import topics_of
from headrace.streams.delivery.counters import Counters
from headrace.streams.delivery.lane import Lane
from headrace.streams.delivery.ports import StagePorts
from headrace.streams.delivery.runner import StageRunner
from headrace.streams.delivery.share import DeadLetterShare

TP = frozenset({(world.TOPIC, 0)})
VALUES = [b"a", b"bb" * 50, b"!", b"c" * 1000, b"d"]
SECOND_LIFE = 4
"""The last record is worked off in a second life."""


class Handed:
    """A delivered batch that notes when it is done."""

    def __init__(self, start: int, stop: int) -> None:
        self.records = world.records_of(VALUES[start:stop], start)
        self.finished = asyncio.Event()

    def done(self) -> None:
        self.finished.set()


async def life(stage: StagePorts, start: int, stop: int) -> None:
    """A worker that takes the partition over, does these records and leaves."""
    failures: list[BaseException] = []
    runner = StageRunner(
        lambda topic, partition: Lane(stage, topic, partition, fail=failures.append)
    )
    await runner.assigned(TP)
    handed = Handed(start, stop)
    await runner.batch(handed)
    await asyncio.wait_for(handed.finished.wait(), 60)
    await runner.revoked(TP)
    assert failures == []


async def test_what_came_in_and_what_may_leave_is_counted_once() -> None:
    """Over two lives: every record read, and of what was published the central topic's alone."""
    published: list[bytes] = []
    stage = StagePorts(
        agent=world.FoldAgent(),
        partitions=1,
        ttl_s={},
        store=MemoryStore(),
        source=world.MemoryLog(VALUES),
        group=world.Member(world.MemoryGroup(0), 0),
        publisher=world.MemoryTopic(lambda name: None, published),
        counters=Counters(),
        share=DeadLetterShare(1.0, least_events=2),
        central=frozenset({"out"}),
    )

    await life(stage, 0, SECOND_LIFE)
    second = dataclasses.replace(stage, counters=Counters())
    await life(second, SECOND_LIFE, len(VALUES))

    assert published == world.expected(VALUES)
    sent = [len(value) for value in published]
    dead = VALUES.index(b"!")
    assert stage.counters.raw_bytes == sum(map(len, VALUES[:SECOND_LIFE]))
    assert stage.counters.upstream_bytes == sum(sent[:SECOND_LIFE]) - sent[dead]
    assert (second.counters.raw_bytes, second.counters.upstream_bytes) == (1, sent[-1])


@pytest.mark.parametrize("name", ["hosts", "press", "wearables", "shops"])
def test_summaries_are_all_that_may_leave(name: str) -> None:
    """One topic of a pipeline is central; everything else is of the site."""
    topics = topics_of(load_pipeline(EXAMPLES / name / "pipeline.toml"))

    assert [topic.name for topic in topics.all() if topic.data == "central"] == [
        topics.summaries.name
    ]
