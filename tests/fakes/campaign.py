"""A seeded SIGKILL campaign: workers killed under load, and a ledger over what came of it."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer
from fakes.onnx_models import mlp

from headrace.schemas.block import FeatureBlock
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.settings import BusSettings, StoreSettings
from headrace.schemas.topics import PipelineTopics, TopicSpec, topics_of
from headrace.streams.jobs import STAGES, Endpoints
from headrace.streams.kafka import client_options, ensure_topics, log_ranges, read_range
from headrace.streams.positions import settle_positions

PARTITIONS, DEVICES, LOAD_S, DRAIN_S = 4, 200, 6.0, 60.0
START_MS = 1_795_255_200_000

PIPELINE = """
name = "{name}"

[input]
max_skew_s = 1e9
allowed_lateness_s = 2.0

[input.metrics]
load = {{}}
heat = {{}}

[views.machine]
features = [
  {{ op = "raw", metrics = ["*"] }}, {{ op = "ewma", metrics = ["*"], alpha = 0.1 }},
  {{ op = "delta", metrics = ["load"] }}, {{ op = "count", window_s = 4.0 }},
  {{ op = "std", metrics = ["heat"], window_s = 4.0 }},
  {{ op = "zscore", metrics = ["load"], warm_up = 3 }},
]

[model]
file = "model.onnx"

[summary]
window_s = 1.0

[topics]
partitions = 4

[delivery]
start = "earliest"
batch_rows = 2000
dead_letter_share = 0.9
"""


@dataclass
class Found:
    """What a run left on its topics, by (partition, source offset), and what repeats there were."""

    predictions: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    features: dict[tuple[int, int], bytes] = field(default_factory=dict)
    summaries: dict[str, bytes] = field(default_factory=dict)
    dead: dict[str, bytes] = field(default_factory=dict)
    late: set[tuple[int, int]] = field(default_factory=set)
    repeats: int = 0
    feature_repeats: int = 0
    differing: list[str] = field(default_factory=list)
    out_of_order: int = 0


@dataclass
class Input:
    """What was sent: values by partition, and which of them can be predicted."""

    values: dict[int, list[tuple[bytes, bytes]]]
    valid: set[str]
    broken: int


def make_input(seed: int, count: int) -> Input:
    """Events of many devices with planted repeats, late events and broken records."""
    rng = random.Random(seed)
    values: dict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
    valid, broken, sent = set(), 0, []
    for n in range(count):
        device = n % DEVICES
        at = START_MS + n
        event = {
            "id": f"e{n}",
            "device_id": f"d{device}",
            "time": f"{np.datetime64(at, 'ms')}Z",
            "metrics": {"load": round(rng.random(), 4), "heat": round(rng.gauss(50, 9), 3)},
        }
        place = (device % PARTITIONS, f"d{device}".encode(), json.dumps(event).encode())
        sent.append(place)
        values[place[0]].append(place[1:])
        valid.add(event["id"])
        chance = rng.random()
        if chance < 0.01:
            again = sent[rng.randrange(max(0, n - 500), n + 1)]
            values[again[0]].append(again[1:])
        elif chance < 0.02:
            values[place[0]].append((place[1], b'{"id": "broken", '))
            broken += 1
        elif chance < 0.03 and n > 5000:
            event |= {"id": f"late{n}", "time": f"{np.datetime64(at - 4500, 'ms')}Z"}
            values[place[0]].append((place[1], json.dumps(event).encode()))
    return Input(values, valid, broken)


class Run:
    """One pipeline under load, its workers killed by a seeded plan.

    Args:
        folder: Where pipeline file and model go.
        name: Pipeline name, new to bus and store.
        bus: ``kafka://host:port``.
        store: ``redis://…``.
    """

    def __init__(self, folder: Path, name: str, bus: str, store: str) -> None:
        self.folder, self.name = folder, name
        self.file = folder / f"{name}.toml"
        self.file.write_text(PIPELINE.format(name=name))
        (folder / "model.onnx").write_bytes(mlp(8))
        self.endpoints = Endpoints(
            bus=BusSettings(url=bus), store=StoreSettings(url=store), embedded=False
        )
        self.options = client_options(self.endpoints.bus)
        self.topics: PipelineTopics = topics_of(load_pipeline(self.file))
        self.workers: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, stage: str) -> None:
        """Start one worker."""
        command = [sys.executable, "-m", "headrace.streams.worker", stage, str(self.file)]
        worker = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        assert worker.stdin is not None
        worker.stdin.write(msgspec.json.encode(self.endpoints) + b"\n")
        worker.stdin.flush()
        self.workers[stage] = worker

    def kill(self, stage: str) -> None:
        """SIGKILL one worker."""
        worker = self.workers[stage]
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        assert worker.stdin is not None
        worker.stdin.close()

    def stop(self) -> None:
        """End every worker in order; kill what does not."""
        for worker in self.workers.values():
            assert worker.stdin is not None
            worker.stdin.close()
        for worker in self.workers.values():
            try:
                worker.wait(20)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()

    async def go(self, given: Input, plan: list[tuple[float, str]], strike: Any = None) -> Found:
        """Send the input over `LOAD_S`, kill by plan, drain; what was found.

        Args:
            given: What to send.
            plan: Seconds after the start, and the stage to kill then.
            strike: Called after each kill, before the worker is started again.
        """
        pipeline = load_pipeline(self.file)
        await ensure_topics(self.options, self.topics.all())
        await settle_positions(
            pipeline, self.topics, STAGES, self.options, self.endpoints.store, start=None
        )
        for stage in STAGES:
            self.start(stage)
        try:
            await asyncio.gather(self._send(given), self._kill(plan, strike))
            return await self._drained(given)
        finally:
            self.stop()

    async def _send(self, given: Input) -> None:
        producer = AIOKafkaProducer(**self.options, acks="all", linger_ms=5)
        await producer.start()
        steps = 60
        began = time.monotonic()
        for step in range(steps):
            for partition, values in given.values.items():
                first, last = (len(values) * s // steps for s in (step, step + 1))
                for key, value in values[first:last]:
                    await producer.send(
                        self.topics.telemetry.name, value, key=key, partition=partition
                    )
            await asyncio.sleep(max(0.0, began + LOAD_S * (step + 1) / steps - time.monotonic()))
        await producer.stop()

    async def _kill(self, plan: list[tuple[float, str]], strike: Any) -> None:
        began = time.monotonic()
        for at, stage in plan:
            await asyncio.sleep(max(0.0, began + at - time.monotonic()))
            self.kill(stage)
            if strike is not None:
                strike()
            self.start(stage)

    async def _drained(self, given: Input) -> Found:
        give_up = time.monotonic() + DRAIN_S
        while True:
            found = await self.found()
            ids = {p["event_id"] for p in found.predictions.values()}
            if given.valid <= ids or time.monotonic() > give_up:
                return found
            await asyncio.sleep(0.5)

    async def found(self) -> Found:
        """Read every topic from its beginning."""
        found = Found()
        for partition in range(PARTITIONS):
            await self._predictions(found, partition)
            await self._features(found, partition)
            async for records in self._all(self.topics.late, partition):
                found.late |= {(partition, int(o)) for o in records.offsets}
            async for records in self._all(self.topics.deadletter, partition):
                for headers, value in zip(records.headers or [], records.values, strict=True):
                    facts = dict(headers)
                    found.dead.setdefault(facts["source"].decode(), facts["code"])
                    assert value is not None
        async for records in self._all(self.topics.summaries, 0):
            for key, value in zip(records.keys, records.values, strict=True):
                record = msgspec.json.decode(value or b"")
                name = f"{(key or b'').decode()}/{record['partition']}"
                if found.summaries.setdefault(name, value or b"") != value:
                    found.differing.append(f"summary {name}")
        return found

    async def _all(self, topic: TopicSpec, partition: int):  # type: ignore[no-untyped-def]
        begin, end = (await log_ranges(self.options, topic.name))[partition]
        if begin < end:
            async for records in read_range(self.options, topic.name, partition, begin, end):
                yield records

    async def _predictions(self, found: Found, partition: int) -> None:
        highest = -1
        async for records in self._all(self.topics.predictions, partition):
            for value in records.values:
                prediction = json.loads(value)
                # Two facts of the serving moment, and no others, may differ between repeats.
                prediction["times_ms"].pop("served")
                prediction.pop("tier")
                offset = int(prediction["source"].rpartition("@")[2])
                place = (partition, offset)
                if place in found.predictions:
                    found.repeats += 1
                    if found.predictions[place] != prediction:
                        found.differing.append(f"prediction {place}")
                    continue
                found.predictions[place] = prediction
                found.out_of_order += offset < highest
                highest = max(highest, offset)

    async def _features(self, found: Found, partition: int) -> None:
        async for records in self._all(self.topics.features, partition):
            for value in records.values:
                block = FeatureBlock.decode(value or b"")
                rows = zip(block.offsets.tolist(), block.features, strict=True)
                for offset, row in rows:
                    place = (partition, offset)
                    if place in found.features:
                        found.feature_repeats += 1
                        if found.features[place] != row.tobytes():
                            found.differing.append(f"features {place}")
                    found.features.setdefault(place, row.tobytes())


def breaches(given: Input, found: Found, calm: Found) -> list[str]:
    """Everything in which a run under fire differs from what was promised.

    Args:
        given: What was sent.
        found: What the run under fire left.
        calm: What a fault-free run of the same input left.
    """
    wrong = [f"differs between repeats: {what}" for what in found.differing]
    ids = [p["event_id"] for p in found.predictions.values()]
    wrong += [f"lost: {event}" for event in sorted(given.valid - set(ids))]
    if len(ids) != len(set(ids)):
        wrong.append(f"{len(ids) - len(set(ids))} repeated events were predicted twice")
    if found.out_of_order:
        wrong.append(f"{found.out_of_order} predictions are out of their partition's order")
    if found.features != calm.features:
        wrong.append("features differ from the fault-free run")
    scores, expected = (
        {place: (p["event_id"], p["score"], p["label"]) for place, p in run.predictions.items()}
        for run in (found, calm)
    )
    if scores != expected:
        wrong.append("scores differ from the fault-free run")
    if len(found.dead) != given.broken or set(found.dead.values()) != set(calm.dead.values()):
        wrong.append(f"{len(found.dead)} dead letters of {given.broken} broken records")
    if found.summaries.keys() != calm.summaries.keys():
        wrong.append("summary windows differ from the fault-free run")
    return wrong
