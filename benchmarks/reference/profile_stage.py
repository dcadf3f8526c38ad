"""One stage's worker, alone on a log that is there: how fast, for how much CPU, and on what.

A stage's time runs from its first output to its last: neither its start nor the group's join
counts, nor the events of what it had put out when it was first seen. Its CPU is that of its threads
in that span. Its process is a worker as `headrace up` starts it, under the same settings.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from job import PARTITIONS, PIPELINE, write_model
from profile_sampler import Sampler
from profile_stacks import Stack
from profile_threads import Cpu, cpu_by_thread, spent
from sides import STOP_S, Where

from headrace.schemas.block import FeatureBlock
from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.schemas.settings import BusSettings, StoreSettings
from headrace.schemas.topics import topics_of
from headrace.streams.bus.admin import ensure_topics
from headrace.streams.bus.options import client_options
from headrace.streams.bus.reads import read_range
from headrace.streams.sites.positions import settle_positions
from headrace.streams.workers.jobs import STAGES, Endpoints, Status

WORKER = Path(__file__).parent / "profile_worker.py"
PATIENCE_S = 180.0
LOOK_S = 0.02
EVERYTHING = """
[observe.drift]
window_s = 1.0
reference_windows = 4

[slo.site.fast]
kind = "latency"
within_ms = 200

[slo.core.served]
kind = "success"
"""
"""All that can be watched, judged far more often than by default."""

BLOCK = b"HRB1"
"""What a feature block begins with."""


@dataclass(frozen=True)
class StageRun:
    """What one run of a stage showed.

    Attributes:
        stage: Stage name.
        events: How many it worked through while it was watched.
        seconds: In what time.
        cpu: CPU time by thread.
        stacks: Its samples; empty where none were taken.
        unread: Looks that gave none.
    """

    stage: str
    events: int
    seconds: float
    cpu: dict[str, Cpu]
    stacks: list[Stack] = field(default_factory=list)
    unread: int = 0

    @property
    def events_per_s(self) -> float:
        """Its rate."""
        return self.events / self.seconds

    @property
    def us_per_event(self) -> float:
        """CPU of all its threads, microseconds per event."""
        return sum(self.us_by_thread.values())

    @property
    def us_by_thread(self) -> dict[str, float]:
        """CPU of each thread, microseconds per event."""
        return {name: cpu.total_s / self.events * 1e6 for name, cpu in self.cpu.items()}


class StageProcess:
    """A worker of one stage.

    Args:
        stage: Stage name.
        where: Bus, store and telemetry; its pipeline file and its logs go into the folder.

    Attributes:
        stage: Stage name.
        file: Its pipeline file.
        watching: What its watching took, where everything is watched; see `profile_worker`.
    """

    def __init__(self, stage: str, where: Where) -> None:
        self.stage = stage
        self.file = write_pipeline(where)
        self._status = where.folder / f"status-{stage}.txt"
        self._log = where.folder / f"log-{stage}.txt"
        self.watching = where.folder / f"watching-{stage}.txt"
        self._where = where
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process."""
        if self._process is None:
            raise RuntimeError(f"stage {self.stage!r} has no process; start it first")
        return self._process.pid

    def start(self) -> None:
        """Start it and tell it where the services are."""
        endpoints = Endpoints(
            bus=_bus(self._where),
            store=_store(self._where),
            embedded=False,
            tracing=self._where.watching == "all",
        )
        environ = {
            "usual": {},
            "off": {"BENCH_UNWATCHED": "1"},
            "all": {"BENCH_CLOCK_WATCHING": str(self.watching)},
        }[self._where.watching]
        with self._status.open("wb") as status, self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(WORKER), self.stage, str(self.file)],
                stdin=subprocess.PIPE, stdout=status, stderr=log, env=os.environ | environ,
            )  # fmt: skip
        if self._process.stdin is not None:
            self._process.stdin.write(msgspec.json.encode(endpoints) + b"\n")
            self._process.stdin.flush()

    def status(self) -> Status | None:
        """What it said last.

        Raises:
            SystemExit: it has ended.
        """
        if self._process is not None and self._process.poll() is not None:
            raise SystemExit(f"stage {self.stage!r} ended; its last lines are\n{self._said()}")
        lines = self._status.read_bytes().split(b"\n")
        return msgspec.json.decode(lines[-2], type=Status) if len(lines) > 1 else None

    def done(self, count: int) -> bool:
        """Whether so many events went in, each of which came out.

        Raises:
            SystemExit: some did not come out, or it has ended.
        """
        status = self.status()
        if status is None or status.events.get("in", 0) < count:
            return False
        if status.events != status.events | {"in": count, "out": count}:
            raise SystemExit(f"stage {self.stage!r} made {status.events} of {count} events")
        return True

    def stop(self) -> None:
        """End it as a supervisor does: by closing its standard input."""
        if self._process is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _said(self) -> str:
        return "\n".join(f.read_text("utf-8", "replace")[-2000:] for f in (self._log, self._status))


async def make_topics(where: Where) -> Pipeline:
    """The run's topics, and where its stages begin; its pipeline."""
    pipeline = load_pipeline(write_pipeline(where))
    topics, options = topics_of(pipeline), client_options(_bus(where))
    await ensure_topics(options, topics.all())
    await settle_positions(pipeline, topics, STAGES, options, _store(where), start=None)
    return pipeline


def write_pipeline(where: Where) -> Path:
    """The reference job's pipeline file and its model, on topics of this run."""
    write_model(where.folder / "model.onnx")
    file = where.folder / "pipeline.toml"
    text = PIPELINE.format(name=where.run, lateness_s=5.0)
    text += f'\n[topics]\npartitions = {PARTITIONS}\ntelemetry = "{where.telemetry}"\n'
    if where.watching == "all":
        text += EVERYTHING
    file.write_text(text, "utf-8")
    return file


async def run_stage(
    stage: str, where: Where, count: int, *, samples: Path | None = None, hz: int = 0
) -> StageRun:
    """Run a stage until it is through `count` events; its topics are there.

    Args:
        stage: Stage name.
        where: As of `StageProcess`.
        count: Events it will find.
        samples: Where its collapsed stacks go; None runs it without a profiler.
        hz: Samples per second.

    Raises:
        SystemExit: it ended, lost events or was not through in `PATIENCE_S`.
    """
    process = StageProcess(stage, where)
    output = output_of(stage, load_pipeline(process.file))
    consumer = AIOKafkaConsumer(bootstrap_servers=where.bus)
    await consumer.start()
    process.start()
    sampler = None if samples is None else Sampler(process.pid, samples, hz=hz)
    try:
        first, run = await _watched(process, consumer, output, count, sampler)
    finally:
        if sampler is not None:
            sampler.kill()
        process.stop()
        await consumer.stop()
    early = await events_below(client_options(_bus(where)), output, first)
    if early >= count:
        raise SystemExit(f"stage {stage!r} was through {count} events at once; give it more")
    return replace(run, events=count - early)


def sampled(run: StageRun, sampler: Sampler) -> StageRun:
    """A run that is over, with its samples."""
    stacks = sampler.stop()
    return replace(run, stacks=stacks, unread=sampler.unread)


def output_of(stage: str, pipeline: Pipeline) -> str:
    """The topic that every event of a stage ends in."""
    topics = topics_of(pipeline)
    return topics.features.name if stage == "enrich" else topics.predictions.name


async def events_below(options: dict[str, Any], topic: str, ends: dict[TopicPartition, int]) -> int:
    """How many events stand below these offsets, in blocks or one by one."""
    found = 0
    for tp, end in ends.items():
        async for batch in read_range(options, topic, tp.partition, 0, end):
            found += sum(map(rows_of, batch.values))
    return found


def rows_of(value: bytes | None) -> int:
    """Events in a record: the rows of a feature block, else one.

    Example:
        >>> rows_of(b'{"id": "a prediction"}')
        1
    """
    if value is None or not value.startswith(BLOCK):
        return 1
    return len(FeatureBlock.decode(value))


async def _watched(
    process: StageProcess,
    consumer: AIOKafkaConsumer,
    output: str,
    count: int,
    sampler: Sampler | None,
) -> tuple[dict[TopicPartition, int], StageRun]:
    """Offsets where the output ended when it was first seen, and the run from then on."""
    partitions = [TopicPartition(output, p) for p in range(PARTITIONS)]
    deadline = time.monotonic() + PATIENCE_S
    first: dict[TopicPartition, int] = {}
    before: dict[str, Cpu] = {}
    ended, began, last = 0, 0.0, 0.0
    while not (done := process.done(count)) or not first:
        found = await consumer.end_offsets(partitions)
        now = time.monotonic()
        if now > deadline:
            raise SystemExit(f"stage {process.stage!r} is not through after {PATIENCE_S:g} s")
        if sum(found.values()) > ended:
            ended, last = sum(found.values()), now
            if not first:
                first, began, before = found, now, cpu_by_thread(process.pid)
                if sampler is not None:
                    await sampler.start()
        if not done:
            await asyncio.sleep(LOOK_S)
    cpu = spent(before, cpu_by_thread(process.pid))
    run = StageRun(process.stage, count, last - began, cpu)
    return first, run if sampler is None else sampled(run, sampler)


def _bus(where: Where) -> BusSettings:
    return BusSettings(url=f"kafka://{where.bus}")


def _store(where: Where) -> StoreSettings:
    return StoreSettings(url=where.store)
