"""Feature blocks out of thin air, a scorer that is one line of NumPy, and what became of them."""

from __future__ import annotations

import msgspec
import numpy as np

from headrace.enrichers.late import BEGINNING
from headrace.schemas.batch import RecordBatch
from headrace.schemas.block import FeatureBlock, Labels
from headrace.schemas.errors import PoisonRecordsError
from headrace.schemas.partial import Part, Passed, decode_partial, encode_partial
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.protocols import ModelIdentity, Scores
from headrace.schemas.strict import convert
from headrace.schemas.topics import topics_of
from headrace.streams.agents.finalise import FinaliseAgent
from headrace.streams.agents.serve import ServeAgent

TELEMETRY = "headrace.press.telemetry.v1"
NOW_S = 1_795_255_200.0
RAISES, NO_SCORE = 7777.0, 8888.0


class SumScorer:
    """Score is the logistic of the row's sum; two feature values make it fail like a model."""

    model = ModelIdentity("press", 1, "9f2c41d0")

    def __init__(self):
        self.calls = []

    async def score(self, features):
        self.calls.append(len(features))
        if (features == RAISES).any():
            raise ValueError("the model raised")
        if (features == NO_SCORE).any():
            rows = np.flatnonzero((features == NO_SCORE).any(1)).tolist()
            raise PoisonRecordsError(dict.fromkeys(rows, "model.failed"))
        score = (1 / (1 + np.exp(-features.sum(1)))).astype(np.float32)
        tier = np.zeros(len(score), np.uint8)
        return Scores(score, np.abs(score), score >= np.float32(0.5), tier, ("light",))


def pipeline(**parts) -> Pipeline:
    """Two metrics, both carried for summaries, two kinds of device, windows of 10 s."""
    tree = {
        "name": "press",
        "input": {
            "metrics": {"load": {}, "heat": {}},
            "attributes": {"kind": {"values": ["core", "disk"]}},
            "allowed_lateness_s": 5.0,
        },
        "views": {"v": {"features": [{"op": "raw", "metrics": ["*"], "name": "{metric}"}]}},
        "model": {"file": "model.onnx"},
        "summary": {"group_by": ["kind"], "metrics": ["load", "heat"]},
        "topics": {"partitions": 3},
    }
    for name, part in parts.items():
        tree[name] = tree[name] | part
    return convert(tree, Pipeline)


def agent(spec=None, scorer=None) -> ServeAgent:
    """A serve agent whose clock stands still."""
    spec = spec or pipeline()
    made = ServeAgent(spec, topics_of(spec), scorer or SumScorer(), now=lambda: NOW_S)
    made.spec = spec
    return made


def block(rows=5, *, offset=0, seed=0, partition=1, topic=TELEMETRY, **columns) -> FeatureBlock:
    """A block of random rows with ascending offsets and nearly ascending times."""
    random = np.random.default_rng((seed, offset))
    features = random.normal(size=(rows, 2))
    times = 1_000_000 + (offset + np.arange(rows)) * 700 + random.integers(-2000, 2000, rows)
    made = FeatureBlock(
        pipeline="press",
        pipeline_digest="d" * 16,
        numerics="n" * 16,
        topic=topic,
        partition=partition,
        columns=("load", "heat"),
        offsets=np.arange(offset, offset + rows),
        event_times_ms=times,
        log_times_ms=times + 12,
        features=features,
        entities=Labels.encode([f"dev-{d}" for d in random.integers(0, 6, rows)]),
        event_ids=[f"e{offset + row}".encode() for row in range(rows)],
        attributes={
            "kind": Labels.encode([("core", "disk")[k] for k in random.integers(0, 2, rows)])
        },
        metric_names=("load", "heat"),
        metrics=features,
    )
    for name, column in columns.items():
        setattr(made, name, column)
    return made


def records(*blocks, offset=0, partition=1) -> RecordBatch:
    """Records of the features topic that hold these blocks, or these bytes."""
    values = [b.encode() if isinstance(b, FeatureBlock) else b for b in blocks]
    offsets = np.arange(offset, offset + len(values))
    return RecordBatch(
        "headrace.press.features.v1", partition, offsets, offsets + 5, [None] * len(values), values
    )


class Final:
    """Partials through a finaliser, each batch folded; what it released.

    Args:
        spec: Pipeline.
        quiet: Partitions that never have anything.
    """

    def __init__(self, spec, *, quiet=()):
        self.agent = FinaliseAgent(spec, topics_of(spec))
        self.state = self.agent.new_state("headrace.press.partials.v1", 0)
        self.store, self.counts, self.outputs = {}, {}, []
        self.quiet = [
            encode_partial(
                Passed(layout=self.agent.layout, partition=p, over_ms=BEGINNING, quiet=True)
            )
            for p in quiet
        ]

    async def batch(self, values, offset=0):
        """The next values of the partials topic."""
        values, self.quiet = [*self.quiet, *values], []
        offsets = np.arange(offset, offset + len(values))
        read = RecordBatch(
            "headrace.press.partials.v1", 0, offsets, offsets, [None] * len(values), values
        )
        effects = await self.agent.process(self.state, read, rebuilt=False)
        for name in effects.delta.dropped():
            del self.store[name]
        self.store |= dict(effects.delta.changed())
        effects.delta.fold()
        for name, count in effects.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        self.outputs += effects.outputs
        return effects

    def values(self):
        return [value for output in self.outputs for value in output.values]


class Run:
    """Batches through one agent, each folded; what was published, by topic.

    Its partials go through a finaliser for which every other partition is quiet.
    """

    def __init__(self, made=None):
        self.agent = made or agent()
        self.state = self.agent.new_state("headrace.press.features.v1", 1)
        self.store = {}
        self.published = {}
        self.counts = {}
        others = set(range(self.agent.spec.topics.partitions)) - {1}
        self.final = Final(self.agent.spec, quiet=others)

    async def batch(self, *blocks, offset=0):
        effects = await self.agent.process(
            self.state, records(*blocks, offset=offset), rebuilt=False
        )
        await self.take(effects)
        return effects

    async def take(self, effects):
        """Publish and store what they say, then fold."""
        for output in effects.outputs:
            self.published.setdefault(output.topic, []).append(output)
        for name in effects.delta.dropped():
            del self.store[name]
        self.store |= dict(effects.delta.changed())
        effects.delta.fold()
        for name, count in effects.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        for output in effects.outputs:
            if output.topic == "headrace.press.partials.v1":
                await self.final.batch(output.values)

    def parts(self):
        """The parts of windows that SERVE wrote."""
        said = map(decode_partial, self.values("partials"))
        return [record for record in said if isinstance(record, Part)]

    def values(self, stage):
        if stage == "summaries":
            return self.final.values()
        topic = f"headrace.press.{stage}.v1"
        return [value for output in self.published.get(topic, []) for value in output.values]

    def predictions(self):
        return [msgspec.json.decode(value) for value in self.values("predictions")]
