"""Both agents in one process, with a real model: records of one partition in, what became of each.

What a stage's runner does is done: a batch that fails is halved (`effects_of`), deltas are folded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from fakes.input_forms import WIDTH, Form, Record
from fakes.onnx_models import mlp

from headrace.schemas.batch import RecordBatch
from headrace.schemas.block import FeatureBlock
from headrace.schemas.deadletter import parse_source, split_headers
from headrace.schemas.errors import Source
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.protocols import Agent, Output, PartitionState
from headrace.schemas.topics import topics_of
from headrace.serving.scorer import load_scorer
from headrace.streams.agents.enrich import EnrichAgent
from headrace.streams.agents.serve import ServeAgent
from headrace.streams.delivery.isolate import effects_of

NOW_S = 1_795_255_300.0
Verdict = tuple[str, str | None]
"""Where a record ended, and its code."""


@dataclass
class Ended:
    """What became of the records of one partition.

    Attributes:
        verdicts: Offset to where the record ended; a repeat leaves no trace but in the counts.
        features: Event id to the bits of its features.
        predictions: Event id to everything in its prediction that hangs on its content.
        counts: Of each stage.
        offset_of: Which record of the log a source names.
    """

    verdicts: dict[int, Verdict] = field(default_factory=dict)
    features: dict[str, bytes] = field(default_factory=dict)
    predictions: dict[str, tuple[object, ...]] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    offset_of: Callable[[Source], int] = lambda source: source.offset

    def end(self, offset: int, verdict: Verdict) -> None:
        """Note where a record ended; it may end once."""
        assert offset not in self.verdicts, (offset, verdict, self.verdicts[offset])
        self.verdicts[offset] = verdict

    def trace(self, headers: list[tuple[str, bytes | None]], place: str) -> None:
        """Note a record that is on the dead-letter or the late topic."""
        _, ours = split_headers(headers)
        source = parse_source(ours["source"].decode())
        self.end(self.offset_of(source), (place, ours["code"].decode()))

    def block(self, value: bytes) -> None:
        """Note the features of a block."""
        block = FeatureBlock.decode(value)
        ids = [event_id.decode() for event_id in block.event_ids]
        self.features |= {i: row.tobytes() for i, row in zip(ids, block.features, strict=True)}

    def prediction(self, value: bytes) -> None:
        """Note a prediction."""
        found = msgspec.json.decode(value)
        source = parse_source(found["source"])
        self.end(self.offset_of(source), ("out", None))
        names = ("event_time", "device_id", "score", "label", "confidence", "tier", "flags")
        self.predictions[found["event_id"]] = tuple(str(found[name]) for name in names)

    def balance(self, sent: int) -> None:
        """Every record is exactly one thing: in = predicted + dead + late + repeated."""
        enrich, serve = self.counts["enrich"], self.counts["serve"]
        intake = self.counts.get("intake", Counter({"in": sent, "out": sent}))
        told = Counter(place for place, _ in self.verdicts.values())
        assert intake["in"] == sent == intake["out"] + intake["dead"]
        assert enrich["in"] == intake["out"]
        assert serve["in"] == enrich["out"] == serve["out"] + serve["dead"] + serve["repeated"]
        assert enrich["late"] == told["late"]
        assert intake["dead"] + enrich["dead"] + serve["dead"] == told["dead"]
        assert serve["out"] == told["out"]
        assert sent == sum(told.values()) + enrich["repeated"] + serve["repeated"]


class AgentPath:
    """ENRICH and SERVE of one partition.

    Args:
        folder: Where pipeline file and model are written.
        form: How events are written.
        key: The pipeline's ``[input] key``.
    """

    def __init__(self, folder: Path, form: Form, *, key: str = "entity") -> None:
        (folder / "model.onnx").write_bytes(mlp(WIDTH))
        file = folder / "press.toml"
        file.write_text(form.file("press", key=key))
        self.pipeline = load_pipeline(file)
        self.topics = topics_of(self.pipeline)
        self.scorer = load_scorer(self.pipeline, folder)
        self.enrich = EnrichAgent(self.pipeline, self.topics, numerics="n")
        self.serve = ServeAgent(self.pipeline, self.topics, self.scorer, now=lambda: NOW_S)
        self.begin()

    def begin(self) -> None:
        """Begin anew, with no state."""
        self.states = {
            "enrich": self.enrich.new_state(self.topics.telemetry.name, 0),
            "serve": self.serve.new_state(self.topics.features.name, 0),
        }
        self.ended = Ended(counts={"enrich": Counter(), "serve": Counter()})
        self._blocks = 0

    def batch(self, records: list[Record], first: int, log_times: list[int]) -> RecordBatch:
        """Records as the transport hands them over."""
        headers = [list(record.headers) for record in records]
        return RecordBatch(
            self.topics.telemetry.name,
            0,
            np.arange(first, first + len(records)),
            np.array(log_times, np.int64),
            [record.key for record in records],
            [record.value for record in records],
            headers if any(headers) else None,  # type: ignore[arg-type]  # invariant, never changed
        )

    async def close(self) -> None:
        """End the scorer."""
        await self.scorer.close()

    def finish(self) -> Ended:
        """What became of everything that was taken."""
        return self.ended

    async def take(self, records: RecordBatch) -> None:
        """One batch, through both stages."""
        for output in await self._effects(self.enrich, records):
            if output.topic == self.topics.features.name:
                await self._serve(output)
            else:
                self._traces(output)

    async def _serve(self, blocks: Output) -> None:
        for value in blocks.values:
            self.ended.block(value)
        count = len(blocks.values)
        offsets = np.arange(self._blocks, self._blocks + count)
        self._blocks += count
        batch = RecordBatch(
            blocks.topic, 0, offsets, offsets, [None] * count, list(blocks.values), None
        )
        for output in await self._effects(self.serve, batch):
            if output.topic == self.topics.predictions.name:
                for value in output.values:
                    self.ended.prediction(value)
            elif output.topic == self.topics.deadletter.name:
                self._traces(output)

    def _traces(self, output: Output) -> None:
        place = "late" if output.topic == self.topics.late.name else "dead"
        assert output.headers is not None
        for headers in output.headers:
            self.ended.trace(list(headers), place)

    async def _effects(self, agent: Agent, records: RecordBatch) -> list[Output]:
        state: PartitionState = self.states[agent.stage]
        outputs: list[Output] = []
        parts = effects_of(agent, state, records, rebuilt=False, on_retry=lambda code: None)
        async for _, effects in parts:
            list(effects.delta.changed())
            list(effects.delta.dropped())
            effects.delta.fold()
            outputs += effects.outputs
            self.ended.counts[agent.stage].update(effects.counts)
        return outputs
