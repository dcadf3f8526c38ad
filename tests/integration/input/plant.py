"""A pipeline of two partitions on a real bus: its stages over a log, and what became of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from fakes.agent_path import Ended

from headrace.schemas.batch import RecordBatch
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.settings import BusSettings, StoreSettings
from headrace.schemas.topics import topics_of
from headrace.streams.bus.admin import ensure_topics
from headrace.streams.bus.options import client_options
from headrace.streams.bus.reads import log_ranges, read_range
from headrace.streams.sites.positions import settle_positions
from headrace.streams.workers.jobs import Endpoints, Status, stages_of

WITHIN_S = 60.0
WORKER = (sys.executable, "-m", "headrace.streams.workers.worker")


class StageWorker:
    """One worker process, told where the services are.

    Args:
        plant: Its pipeline.
        stage: Its stage.
        command: What runs a worker, before stage and file.
    """

    def __init__(self, plant: Plant, stage: str, command: Sequence[str] = WORKER) -> None:
        said = plant.folder / f"{plant.name}.{stage}"
        self._said, self._log = said.with_suffix(".status"), said.with_suffix(".log")
        with self._said.open("wb") as status, self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, stage, str(plant.file)], stdin=subprocess.PIPE, stdout=status, stderr=log
            )
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(plant.endpoints) + b"\n")
        self._process.stdin.flush()

    def status(self) -> Status | None:
        """The last it said of itself."""
        lines = self._said.read_bytes().split(b"\n")[:-1]
        return msgspec.json.decode(lines[-1], type=Status) if lines else None

    async def reached(self, ends: Mapping[int, int]) -> None:
        """Wait until every partition is at its end."""
        give_up_s = time.monotonic() + WITHIN_S
        while True:
            status = self.status()
            at = {p.partition: p.position for p in status.partitions} if status else {}
            if all(at.get(partition, 0) >= end for partition, end in ends.items()):
                return
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < give_up_s, (at, ends, self._log.read_text())
            await asyncio.sleep(0.05)

    def stop(self) -> Status:
        """End it in order; its last totals."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(WITHIN_S) == 0, self._log.read_text()
        status = self.status()
        assert status is not None
        return status

    def died(self) -> int:
        """How it ended by itself."""
        code = self._process.wait(WITHIN_S)
        self.end()
        return code

    def end(self) -> None:
        """End it at once, if it still runs."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()


class Plant:
    """One pipeline file's stages, worked off one after the other.

    Args:
        folder: Where pipeline file and model are.
        bus: ``kafka://host:port``.
        store: ``redis://…``.
        name: Name of the pipeline, and of its file.
        embedded: The bus is the embedded one.
    """

    def __init__(
        self, folder: Path, bus: str, store: str, name: str, *, embedded: bool = False
    ) -> None:
        self.folder, self.name, self.file = folder, name, folder / f"{name}.toml"
        self.endpoints = Endpoints(
            bus=BusSettings(url=bus), store=StoreSettings(url=store), embedded=embedded
        )
        self.options = client_options(self.endpoints.bus)
        self.pipeline = load_pipeline(self.file)
        self.topics = topics_of(self.pipeline)
        self.counts: dict[str, Counter[str]] = {}

    async def prepare(self) -> None:
        """Make the topics, and settle where each stage begins."""
        await ensure_topics(self.options, self.topics.all())
        stages = stages_of(self.pipeline)
        await settle_positions(self.pipeline, self.topics, stages, self.options, None, start=None)

    async def ended(self) -> tuple[Ended, Ended]:
        """Let every stage work off the log; what became of each partition's records."""
        await self.work_off()
        topics, found = self.topics, (Ended(), Ended())
        for records in await self.read(topics.features.name):
            for value in records.values:
                found[records.partition].block(value or b"")
        for topic, place in ((topics.deadletter.name, "dead"), (topics.late.name, "late")):
            for records in await self.read(topic):
                for row in range(len(records)):
                    found[records.partition].trace(list((records.headers or [()])[row]), place)
        for records in await self.read(topics.predictions.name):
            for value in records.values:
                found[records.partition].prediction(value or b"")
        return found

    def balance(self, sent: int, *parts: Ended) -> None:
        """The workers' own counts: in = predicted + dead + late + repeated."""
        whole = Ended(counts=self.counts)
        for number, part in enumerate(parts):
            whole.verdicts |= {(number << 40) + at: was for at, was in part.verdicts.items()}
        whole.balance(sent)

    async def work_off(self) -> None:
        """One stage after the other, each until it has made all there is durable."""
        for stage, source in self._stages():
            ends = await log_ranges(self.options, source)
            worker = StageWorker(self, stage)
            try:
                await worker.reached({p: end for p, (_, end) in ends.items() if end})
                self.counts[stage] = Counter(worker.stop().events)
            finally:
                worker.end()

    def _stages(self) -> list[tuple[str, str]]:
        """Each stage and what it reads."""
        topics = self.topics
        read = {"intake": topics.telemetry, "enrich": topics.enriched, "serve": topics.features}
        return [(stage, read[stage].name) for stage in stages_of(self.pipeline)]

    async def read(self, topic: str) -> list[RecordBatch]:
        """Everything on a topic."""
        return [
            records
            for partition, (begin, end) in (await log_ranges(self.options, topic)).items()
            async for records in read_range(self.options, topic, partition, begin, end)
        ]
