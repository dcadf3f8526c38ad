"""A consumer that reports: what it perceived is told once, and reading never fails with it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from headrace.schemas.errors import SettingsError
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.topics import topics_of
from headrace.streams.client import Consumer
from headrace.streams.client.latency import Latency
from headrace.streams.client.report import LatencyReport
from headrace.streams.observe.history_topic import read
from headrace.streams.observe.latencies import Counts, percentiles
from headrace.streams.observe.perceived import Perceived

FILE = Path(__file__).parents[3] / "examples" / "press" / "pipeline.toml"
PIPELINE = load_pipeline(FILE)
OBSERVED = topics_of(PIPELINE).observed.name


async def take(world, count: int) -> None:
    await world.publish(range(count), times_ms={"device": 1_000, "served": 9_000})
    consumer = Consumer(
        world.bus, PIPELINE, start="earliest", follow=False, report=True, now=lambda: 10.0
    )
    async with consumer:
        assert [row.source_offset async for row in consumer] == list(range(count))


async def test_what_was_perceived_is_told_once(world):
    """Both hops have every prediction; a record that comes twice counts once."""
    world.bus.create(OBSERVED, 1)
    await take(world, 50)

    (record,) = [read(value) for _, value, _ in world.bus.topics[OBSERVED].partitions[0]]
    told: list[Counts] = []
    perceived = Perceived(0, told.append)
    perceived.add(record)
    perceived.add(record)
    Perceived(record.at_ms + 1, told.append).add(record)

    (counts,) = told
    found = {p.hop: (p.count, round(p.p50_ms, -2)) for p in percentiles(counts)}
    assert found == {"prediction_to_consumer": (50, 1_000), "device_to_consumer": (50, 9_000)}
    assert [p.count for p in record.latencies] == [50, 50]


async def test_a_minute_tells_of_that_minute(world):
    """What one record told of is in no other."""
    world.bus.create(OBSERVED, 1)
    latency = Latency()
    report = LatencyReport(
        world.bus, PIPELINE, {"device_to_consumer": latency}, now=lambda: 1.0, every_s=0.001
    )
    report.start()
    log = world.bus.topics[OBSERVED].partitions[0]
    for count in (1, 2):
        latency.record(np.full(count, 5.0))
        while len(log) < count:
            await asyncio.sleep(0.001)
    await report.stop()

    assert [read(value).latencies[0].count for _, value, _ in log] == [1, 2]
    assert [read(value).number for _, value, _ in log] == [0, 1]


async def test_a_topic_that_cannot_be_written_keeps_nobody_from_reading(world, caplog):
    """Everything arrives; one line says that it is not reported."""
    world.bus.create(OBSERVED, 1)
    world.bus.failing_writes = 99
    await take(world, 50)

    assert [r.message for r in caplog.records if "not reported" in r.message] != []


def test_a_topic_alone_names_no_pipeline(memory_bus):
    """Where a report would go is known of a pipeline only."""
    with pytest.raises(SettingsError, match="pass the pipeline"):
        Consumer(memory_bus, "headrace.press.predictions.v1", report=True)
