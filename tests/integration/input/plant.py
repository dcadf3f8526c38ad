"""A pipeline of two partitions on a real bus: both stages over a log, and what became of it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from fakes.agent_path import Ended

from headrace.schemas.batch import RecordBatch
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.settings import BusSettings, StoreSettings
from headrace.schemas.topics import topics_of
from headrace.streams.bus.admin import ensure_topics
from headrace.streams.bus.options import client_options
from headrace.streams.bus.reads import log_ranges, read_range
from headrace.streams.drill.workers import Workers
from headrace.streams.jobs import STAGES, Endpoints
from headrace.streams.positions import settle_positions

WITHIN_S = 60.0


class BothStages:
    """One pipeline file's ENRICH and SERVE.

    Args:
        folder: Where pipeline file and model are.
        bus: ``kafka://host:port`` of a real Kafka.
        store: ``redis://…``.
        name: Name of the pipeline, and of its file.
    """

    def __init__(self, folder: Path, bus: str, store: str, name: str) -> None:
        self.folder, self.name, self.file = folder, name, folder / f"{name}.toml"
        self.endpoints = Endpoints(
            bus=BusSettings(url=bus), store=StoreSettings(url=store), embedded=False
        )
        self.options = client_options(self.endpoints.bus)
        self.environ = dict(os.environ)
        self.pipeline = load_pipeline(self.file)
        self.topics = topics_of(self.pipeline)
        self.counts: dict[str, Counter[str]] = {}

    async def prepare(self) -> None:
        """Make the topics, and settle where each stage begins."""
        await ensure_topics(self.options, self.topics.all())
        await settle_positions(self.pipeline, self.topics, STAGES, self.options, None, start=None)

    async def ended(self) -> tuple[Ended, Ended]:
        """Let both stages work off the log; what became of each partition's records."""
        await self._worked_off()
        topics, found = self.topics, (Ended(), Ended())
        for records in await self._read(topics.features.name):
            for value in records.values:
                found[records.partition].block(value or b"")
        for topic, place in ((topics.deadletter.name, "dead"), (topics.late.name, "late")):
            for records in await self._read(topic):
                for row in range(len(records)):
                    found[records.partition].trace(list((records.headers or [()])[row]), place)
        for records in await self._read(topics.predictions.name):
            for value in records.values:
                found[records.partition].prediction(value or b"")
        return found

    def balance(self, sent: int, *parts: Ended) -> None:
        """The workers' own counts: in = predicted + dead + late + repeated."""
        whole = Ended(counts=self.counts)
        for number, part in enumerate(parts):
            whole.verdicts |= {(number << 40) + at: was for at, was in part.verdicts.items()}
        whole.balance(sent)

    async def _worked_off(self) -> None:
        workers = Workers(self)  # type: ignore[arg-type]  # all that it needs of a drill's target
        try:
            for stage, source in zip(
                STAGES, (self.topics.telemetry, self.topics.features), strict=True
            ):
                workers.start(stage)
                await workers.ready()
                ends = await log_ranges(self.options, source.name)
                await workers.reached(
                    stage, {p: e for p, (_, e) in ends.items()}, within_s=WITHIN_S
                )
            lives: dict[str, Any] = dict(workers._lives)
            await workers.stop()
            for stage, life in lives.items():
                life.look()
                self.counts[stage] = Counter(life.status.events)
        finally:
            workers.end()

    async def _read(self, topic: str) -> list[RecordBatch]:
        """Everything on a topic."""
        return [
            records
            for partition, (begin, end) in (await log_ranges(self.options, topic)).items()
            async for records in read_range(self.options, topic, partition, begin, end)
        ]
