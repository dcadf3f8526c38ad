"""A pipeline's past in memory: logs of every topic as workers left them, restarts and all."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from fakes.enrich_world import START_MS, event
from fakes.onnx_models import mlp

from headrace.feature_store.snapshot_folder import SnapshotFolder
from headrace.feature_store.snapshots import Snapshots
from headrace.schemas.batch import LastRecord, RecordBatch
from headrace.schemas.numerics import numerics_fingerprint
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.protocols import CheckpointMeta, Effects, Output
from headrace.schemas.settings import SnapshotSettings
from headrace.schemas.strict import convert
from headrace.schemas.topics import topics_of
from headrace.serving.repository import Repository
from headrace.serving.scorer import OnnxScorer, read_model
from headrace.streams.agents.enrich import enrich_agent
from headrace.streams.agents.finalise import FinaliseAgent
from headrace.streams.agents.serve import ServeAgent
from headrace.streams.delivery.isolate import effects_of
from headrace.streams.delivery.ports import checkpoint_key
from headrace.streams.delivery.recovery import FORMAT
from headrace.streams.replay.definitions import Definitions
from headrace.streams.replay.past import Past

NOW_S = 1_795_300_000.0


@dataclass
class Log:
    """Records of one partition; what lies below `begin` has expired."""

    begin: int = 0
    times: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)

    def append(self, key: bytes | None, value: bytes | None, time_ms: int) -> None:
        self.keys.append(key)
        self.values.append(value)
        self.times.append(time_ms)


class MemoryLogs:
    """`PastLog` in memory; read in batches of random sizes."""

    def __init__(self, seed: int = 0) -> None:
        self.logs: dict[tuple[str, int], Log] = {}
        self._random = random.Random(seed)

    def log(self, topic: str, partition: int) -> Log:
        return self.logs.setdefault((topic, partition), Log())

    def batch(self, topic: str, partition: int, start: int, stop: int) -> RecordBatch:
        log = self.log(topic, partition)
        return RecordBatch(
            topic,
            partition,
            np.arange(start, stop),
            np.array(log.times[start:stop], np.int64),
            log.keys[start:stop],
            log.values[start:stop],
        )

    async def read_range(
        self, topic: str, partition: int, start: int, stop: int
    ) -> AsyncIterator[RecordBatch]:
        log = self.log(topic, partition)
        assert start >= log.begin
        end = min(stop, len(log.values))
        while start < end:
            size = self._random.randint(1, 40)
            yield self.batch(topic, partition, start, min(end, start + size))
            start += size

    async def last_record(self, topic: str, partition: int, offset: int) -> LastRecord | None:
        log = self.log(topic, partition)
        if not log.begin <= offset < len(log.values):
            return None
        return self.batch(topic, partition, offset, offset + 1).last_record()

    async def log_range(self, topic: str, partition: int) -> tuple[int, int]:
        log = self.log(topic, partition)
        return log.begin, len(log.values)

    async def offset_at(self, topic: str, partition: int, time_ms: int) -> int:
        log = self.log(topic, partition)
        later = (at for at in range(log.begin, len(log.values)) if log.times[at] >= time_ms)
        return next(later, len(log.values))


def spec(**parts: Any) -> Pipeline:
    """A pipeline of two metrics with operators that remember, on one partition."""
    tree: dict[str, Any] = {
        "name": "press",
        "input": {"metrics": {"load": {}, "heat": {"required": False}}, "allowed_lateness_s": 5.0},
        "views": {
            "v": {
                "features": [
                    {"op": "raw", "metrics": ["*"]},
                    {"op": "ewma", "metrics": ["*"]},
                    {"op": "mean", "metrics": ["load"], "window_s": 10.0},
                ]
            }
        },
        "model": {"file": "model.onnx"},
        "summary": {"metrics": ["load"]},
        "topics": {"partitions": 1},
    }
    for name, part in parts.items():
        tree[name] = {**tree.get(name, {}), **part} if isinstance(part, dict) else part
    return convert(tree, Pipeline)


class World:
    """One partition of a pipeline that lived through restarts; what it left.

    Args:
        folder: Pipeline files, models and snapshots.
        seed: Of everything that is random.
    """

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder, self.logs = folder, MemoryLogs(seed)
        self.random = random.Random(seed)
        self.pipeline = spec()
        self.topics = topics_of(self.pipeline)
        self.source = self.topics.enriched.name
        place = SnapshotFolder(folder / "kept")
        limits = SnapshotSettings(url=str(folder / "kept"), every_s=0.001, keep=50)
        self.snapshots = Snapshots(place, "press", limits, self._now)
        self.repository = Repository(place, "press", self._now)
        self._clock = NOW_S
        self._done = {"enrich": 0, "serve": 0, "summarize": 0}
        self._fields: dict[str, dict[bytes, bytes]] = {"enrich": {}, "serve": {}, "summarize": {}}
        self._layouts: dict[str, str] = {}
        self.model(1)

    def _now(self) -> float:
        self._clock += 1.0
        return self._clock

    def model(self, seed: int) -> None:
        """From the next life on, another model is beside the pipeline file."""
        columns = len(self.pipeline.model_inputs)
        (self.folder / "model.onnx").write_bytes(mlp(columns, seed=seed))

    def send(self, count: int) -> None:
        """Events of five devices; one in twenty is broken, late or sent before."""
        log = self.logs.log(self.source, 0)
        for _ in range(count):
            n = len(log.values)
            at = START_MS + n * 400 + self.random.randint(-2000, 2000)
            kind = self.random.random()
            if kind < 0.02:
                value = b"{broken"
            elif kind < 0.04 and n:
                value = log.values[self.random.randrange(n)] or b""
            else:
                at -= 60_000 if kind < 0.05 else 0
                heat = None if self.random.random() < 0.1 else self.random.gauss(0, 1)
                device = f"d{self.random.randrange(5)}"
                value = event(f"e{n}", device, at, load=self.random.gauss(0, 1), heat=heat)
            log.append(None, value, START_MS + n * 400 + 5)

    async def live(self, *, repeat: int = 0, snapshot: bool = True) -> None:
        """One life of both workers, to the end of their logs.

        Args:
            repeat: Records that the life before had published and not committed.
            snapshot: Whether one is left of the state.
        """
        await self._enrich(repeat)
        if snapshot:
            self._snapshot()
        await self._serve(1 if repeat else 0)
        await self._finalise()

    async def _enrich(self, repeat: int) -> None:
        agent = enrich_agent(self.pipeline, self.topics, self.folder, numerics_fingerprint())
        done, fields = self._done["enrich"], self._fields["enrich"]
        if self._layouts.get("enrich", agent.layout) != agent.layout:
            done, fields, repeat = 0, {}, 0
        self._layouts["enrich"] = agent.layout
        state = agent.new_state(self.source, 0)
        state.load(fields.items())
        silent = self._done["enrich"] if not fields else 0
        end = len(self.logs.log(self.source, 0).values)
        if repeat:
            # A life that published up to `cut`, and was killed before it had stored all of it.
            cut = self.random.randrange(done, end + 1)
            stored = max(done, cut - repeat)
            await self._fold(agent, state, done, stored, True, silent)
            kept = dict(state.dump())
            await self._fold(agent, state, stored, cut, True, silent)
            state, done = agent.new_state(self.source, 0), stored
            state.load(kept.items())
        await self._fold(agent, state, done, end, True, silent)
        self._fields["enrich"] = dict(state.dump())
        self._done["enrich"] = end

    async def _fold(
        self, agent: Any, state: Any, begin: int, end: int, publish: bool, silent: int
    ) -> None:
        while begin < end:
            stop = min(end, begin + self.random.randint(1, 30))
            if begin < silent < stop:
                stop = silent
            batch = self.logs.batch(self.source, 0, begin, stop)
            async for _, effects in effects_of(
                agent, state, batch, rebuilt=False, on_retry=lambda code: None
            ):
                effects.delta.fold()
                if publish and begin >= silent:
                    self._publish(effects, int(batch.log_times_ms[-1]))
            begin = stop

    def _publish(self, effects: Effects, time_ms: int) -> None:
        for output in effects.outputs:
            self._append(output, time_ms + 3)

    def _append(self, output: Output, time_ms: int) -> None:
        log = self.logs.log(output.topic, output.partition)
        keys = output.keys or [None] * len(output.values)
        for key, value in zip(keys, output.values, strict=True):
            log.append(key, value, max(time_ms, log.times[-1] if log.times else 0))

    async def _serve(self, again: int) -> None:
        scorer = OnnxScorer(read_model(self.pipeline, self.folder), self.pipeline)
        content = (self.folder / "model.onnx").read_bytes()
        self.repository.keep(self.pipeline, content, None)
        agent = ServeAgent(self.pipeline, self.topics, scorer, now=self._now)
        name = self.topics.features.name
        state = agent.new_state(name, 0)
        state.load(self._fields["serve"].items())
        log = self.logs.log(name, 0)
        begin = self._done["serve"]
        while begin < len(log.values):
            stop = min(len(log.values), begin + self.random.randint(1, 4))
            batch = self.logs.batch(name, 0, begin, stop)
            for time in range(1 + (again and begin == self._done["serve"])):
                effects = await agent.process(state, batch, rebuilt=False)
                self._publish(effects, log.times[stop - 1] + time)
            effects.delta.fold()
            begin = stop
        self._fields["serve"] = dict(state.dump())
        self._done["serve"] = begin
        await scorer.close()

    async def _finalise(self) -> None:
        agent, name = FinaliseAgent(self.pipeline, self.topics), self.topics.partials.name
        state = agent.new_state(name, 0)
        state.load(self._fields["summarize"].items())
        log, begin = self.logs.log(name, 0), self._done["summarize"]
        if begin < len(log.values):
            batch = self.logs.batch(name, 0, begin, len(log.values))
            effects = await agent.process(state, batch, rebuilt=False)
            self._publish(effects, log.times[-1])
            effects.delta.fold()
        self._fields["summarize"] = dict(state.dump())
        self._done["summarize"] = len(log.values)

    def _snapshot(self) -> None:
        position = self._done["enrich"]
        last = self.logs.batch(self.source, 0, position - 1, position).last_record()
        meta = CheckpointMeta(
            position=position,
            layout=self._layouts["enrich"],
            format=FORMAT,
            partitions=1,
            numerics=numerics_fingerprint(),
            epoch=0,
            last=last,
        )
        key = checkpoint_key("enrich", self.source, 0)
        self.snapshots.save(key, meta, self._fields["enrich"].items())

    def past(self, *, models: Sequence[Path] = (), **more: Any) -> Past:
        """What a replay reads of it."""
        repository = more.pop("repository", self.repository)
        definitions = Definitions(self.pipeline, self.topics, self.folder, repository, models)
        more.setdefault("snapshots", self.snapshots)
        return Past(self.logs, definitions, **more)  # type: ignore[arg-type]  # async generators

    def change(self, topic: str, at: int, **fields: Any) -> None:
        """Change a prediction as it lies on its topic."""
        log = self.logs.log(topic, 0)
        found = msgspec.json.decode(log.values[at] or b"")
        log.values[at] = msgspec.json.encode({**found, **fields})
