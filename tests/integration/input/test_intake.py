"""Devices that key their records wrongly or not at all, on a real Kafka, through all stages."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.bad_events import good
from fakes.input_forms import ABSENT, DEFAULT, WIDTH, Record
from fakes.onnx_models import mlp
from fakes.raw_producer import send_raw
from integration.input.plant import Plant, StageWorker

from headrace.schemas.batch import RecordBatch
from headrace.schemas.block import FeatureBlock
from headrace.streams.client.clock import wall_clock
from headrace.streams.client.deadletters import DeadLetters
from headrace.streams.client.partition import Partitioner

pytestmark = pytest.mark.slow

COUNT = 300
DYING = """
import os, signal
from headrace.feature_store.checkpoint import RedisCheckpointStore

async def die(*args, **named):
    os.kill(os.getpid(), signal.SIGKILL)

RedisCheckpointStore.write = die
from headrace.streams.workers.worker import main
main()
"""
"""A worker that is killed when its first batch is published and not yet checkpointed."""


def telemetry(start_ms: int) -> list[Record]:
    """Events of three devices under every kind of key, without ids; every tenth is none."""
    keys = (None, b"gateway-1", b"\xff\xfe", b"g0")
    events = [good(number, start_ms + number) for number in range(COUNT)]
    made = [DEFAULT.record(event, id=ABSENT) for event in events]
    records = [replace(record, key=keys[n % 4]) for n, record in enumerate(made) if record]
    return [
        replace(record, value=b"{") if n % 10 == 9 else record for n, record in enumerate(records)
    ]


def offsets_by_device(read: list[RecordBatch]) -> dict[str, list[tuple[int, int]]]:
    """Of each device: partition and event time of each event that has features, in order."""
    found: dict[str, list[tuple[int, int]]] = {}
    for records in read:
        for value in records.values:
            block = FeatureBlock.decode(value or b"")
            times, codes = block.event_times_ms.tolist(), block.entities.codes.tolist()
            for code, time_ms in zip(codes, times, strict=True):
                entity = block.entities.names[code]
                found.setdefault(entity, []).append((records.partition, time_ms))
    return found


async def test_every_device_is_on_its_partition_in_order(
    tmp_path: Path, kafka_url: str, store_url: str, unique
) -> None:
    """Killed after publishing, intake writes its batch again; each event is predicted once."""
    (tmp_path / "model.onnx").write_bytes(mlp(WIDTH))
    name = unique("intake")
    (tmp_path / f"{name}.toml").write_text(DEFAULT.file(name, key="rekey"))
    plant = Plant(tmp_path, kafka_url, store_url, name)
    start_ms = int(wall_clock() * 1000) - 60_000
    sent = telemetry(start_ms)
    await plant.prepare()
    topic = plant.topics.telemetry.name
    for first in range(0, COUNT, 100):
        await send_raw(plant.options, topic, 0, sent[first : first + 100])

    dying = StageWorker(plant, "intake", [sys.executable, "-c", DYING])
    assert dying.died() == -signal.SIGKILL

    await plant.work_off()
    read = await plant.read(plant.topics.predictions.name)
    predicted = [json.loads(value or b"")["event_id"] for r in read for value in r.values]
    assert sorted(predicted) == sorted(f"{topic}/0/{n}" for n in range(COUNT) if n % 10 != 9)
    dead = [DeadLetters().read(r) for r in await plant.read(plant.topics.deadletter.name)]
    sources = {letter.source: letter.code for part in dead for letter in part if letter}
    assert sources == {f"{topic}[0]@{n}": "json.invalid" for n in range(9, COUNT, 10)}
    counts = plant.counts
    assert counts["intake"]["in"] == COUNT == counts["intake"]["out"] + counts["intake"]["dead"]
    assert counts["enrich"]["repeated"] > 0
    assert counts["enrich"]["in"] == counts["enrich"]["out"] + counts["enrich"]["repeated"]

    found = offsets_by_device(await plant.read(plant.topics.features.name))
    assert sorted(found) == ["g0", "g1", "g2"]
    for device, events in found.items():
        assert {partition for partition, _ in events} == {Partitioner(2).of(device.encode())}
        assert [time_ms for _, time_ms in events] == sorted(time_ms for _, time_ms in events)
