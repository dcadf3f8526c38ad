"""The enrich stage: telemetry records to feature blocks, dead letters and late events."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from headrace.enrichers.enricher import Enriched, Enricher
from headrace.enrichers.registry import NO_REGISTRY, Registry, parse_registry
from headrace.enrichers.state import EnrichDelta, EnrichState, online_rows
from headrace.schemas.batch import RecordBatch
from headrace.schemas.block import FeatureBlock, Labels, encode_blocks
from headrace.schemas.fragments import strings
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.protocols import Effects, Output, PartitionState
from headrace.schemas.timed import Timed
from headrace.schemas.topics import BLOCK_LIMIT_BYTES, PipelineTopics
from headrace.streams.agents.probes import real_rows
from headrace.streams.agents.refusals import Refusals
from headrace.streams.agents.registry_file import registry_text
from headrace.streams.agents.together import SMALL_ROWS, Together
from headrace.streams.observe.traces import going_on, traced_rows
from headrace.streams.workers.jobs import StateFacts


class EnrichAgent:
    """Pure `Batch -> Effects` of the enrich stage.

    Everything goes to the source's partition number: feature blocks (split at 512 KiB), dead
    letters (original bytes, key and headers; ours added), late events (the same, keyed by entity).
    ``in = out + dead + late + repeated`` for every batch.

    Args:
        pipeline: Pipeline file.
        topics: Its topics.
        registry: Device registry, read by the caller.
        numerics: Numerics fingerprint of this worker.

    Raises:
        PipelineFileError: `[input]` contradicts itself. Fatal.
    """

    stage = "enrich"

    def __init__(
        self,
        pipeline: Pipeline,
        topics: PipelineTopics,
        *,
        registry: Registry = NO_REGISTRY,
        numerics: str,
    ) -> None:
        self._enricher = Enricher(pipeline, registry)
        self._together = Together[tuple[EnrichState, RecordBatch], Enriched](self._apply_all)
        self._topics = topics
        self._numerics = numerics
        self._refusals = Refusals(pipeline, topics, self.stage)
        self._pipeline, self._digest = pipeline.name, pipeline.digest
        self.columns = tuple(column.name for column in self._enricher.features.columns)
        self._summarized = pipeline.summary.metrics
        self._metrics = [pipeline.input.metric_names.index(name) for name in self._summarized]
        self._probed = pipeline.canary is not None
        self._class_by = pipeline.observe.class_by or ""
        self.layout = self._enricher.features.layout.digest
        self.features_topic = topics.features.name

    def new_state(self, topic: str, partition: int) -> EnrichState:
        """The state before the first record of a partition."""
        return self._enricher.new_state()

    async def process(
        self, state: PartitionState, records: RecordBatch, *, rebuilt: bool
    ) -> Effects:
        """What `records` do; `state` is only read.

        Small batches of several partitions, asked for in one turn of the event loop, are enriched
        at once, each as it would be alone.

        Args:
            state: State at the batch's first record, of `new_state`.
            records: Records in log order.
            rebuilt: Recorded in the block: the state comes from a truncated history.
        """
        ours = _ours(state)
        if len(records) > SMALL_ROWS:
            found = self._enricher.apply(ours, records)
        else:
            found = await self._together.ask((ours, records))
        labels = {name: Labels.encode(texts) for name, texts in found.events.attributes.items()}
        events = found.events
        traces = traced_rows(records.headers, records.offsets, events.offsets)
        timed = Timed(
            events.topic,
            events.partition,
            events.offsets,
            events.event_times_ms,
            events.log_times_ms,
            labels.get(self._class_by),
            traces=traces,
        )
        outputs = [*self._blocks(found, labels, timed, rebuilt=rebuilt)]
        if found.dead:
            outputs.append(self._refusals.dead(records, found.dead))
        if found.late:
            outputs.append(self._refusals.late(records, found.late))
        featured = found.featured
        online = online_rows(
            featured.entities.names, featured.rows, featured.renewed, self._enricher.views
        )
        real = real_rows(found.featured.entities) if self._probed else None
        if real is not None:
            timed = timed.take(real)
        counts = {
            "in": len(records),
            "out": len(timed),
            "dead": len(found.dead),
            "late": len(found.late),
            "repeated": found.repeated,
        }
        if self._probed:
            counts["canary"] = len(events) - len(timed)
        return Effects(outputs, online, found.delta, counts, timed if len(timed) else None)

    async def _apply_all(
        self, parts: Sequence[tuple[EnrichState, RecordBatch]]
    ) -> Sequence[Enriched]:
        return self._enricher.apply_all(parts)

    def dead(self, records: RecordBatch, row: int, code: str, state: PartitionState) -> Effects:
        """Effects that dead-letter one record under `code` and change nothing else."""
        ours = _ours(state)
        unchanged = EnrichDelta.nothing(ours)
        counts = {"in": 1, "out": 0, "dead": 1, "late": 0, "repeated": 0}
        return Effects([self._refusals.dead(records, {row: code})], [], unchanged, counts)

    def facts(self, state: PartitionState) -> StateFacts:
        """What the state of one partition holds."""
        ours = _ours(state)
        return StateFacts(entities=len(ours.rows), bytes=ours.memory_bytes, clocks=ours.clocks())

    def resting(self, partition: int) -> Output:
        """A block of no rows: this partition was read to its end and rests."""
        block = FeatureBlock(
            pipeline=self._pipeline,
            pipeline_digest=self._digest,
            numerics=self._numerics,
            topic=self._topics.enriched.name,
            partition=partition,
            columns=self.columns,
            offsets=np.empty(0, np.int64),
            event_times_ms=np.empty(0, np.int64),
            log_times_ms=np.empty(0, np.int64),
            features=np.empty((0, len(self.columns))),
            entities=Labels([], np.empty(0, np.int32)),
            event_ids=[],
        )
        return Output(self._topics.features.name, partition, None, [block.encode()])

    def _blocks(
        self, found: Enriched, labels: dict[str, Labels], timed: Timed, *, rebuilt: bool
    ) -> list[Output]:
        events = found.events
        if not len(events):
            return []
        block = FeatureBlock(
            pipeline=self._pipeline,
            pipeline_digest=self._digest,
            numerics=self._numerics,
            topic=events.topic,
            partition=events.partition,
            columns=self.columns,
            offsets=events.offsets,
            event_times_ms=events.event_times_ms,
            log_times_ms=events.log_times_ms,
            features=found.featured.values,
            entities=found.featured.entities,
            event_ids=strings(events.ids),
            attributes=labels,
            metric_names=self._summarized,
            metrics=events.metrics[:, self._metrics],
            rebuilt=rebuilt,
            traces=going_on(self.stage, timed),
        )
        values = list(encode_blocks(block, BLOCK_LIMIT_BYTES))
        return [Output(self._topics.features.name, events.partition, None, values)]


def _ours(state: PartitionState) -> EnrichState:
    if not isinstance(state, EnrichState):
        raise TypeError(f"the enrich stage got a {type(state).__name__}, expected an EnrichState")
    return state


def enrich_agent(
    pipeline: Pipeline, topics: PipelineTopics, folder: Path, numerics: str
) -> EnrichAgent:
    """The agent with its device registry, read from `folder`.

    Raises:
        PipelineFileError: the registry is missing or wrong, or `[input]` contradicts itself. Fatal.
    """
    return agent_of(pipeline, topics, registry_text(pipeline, folder), numerics)


def agent_of(
    pipeline: Pipeline, topics: PipelineTopics, registry: str | None, numerics: str
) -> EnrichAgent:
    """The agent with the text of its device registry, None where it has none.

    Raises:
        PipelineFileError: the registry is wrong, or `[input]` contradicts itself. Fatal.
    """
    if pipeline.devices is None or registry is None:
        return EnrichAgent(pipeline, topics, numerics=numerics)
    parsed = parse_registry(registry, pipeline.devices)
    return EnrichAgent(pipeline, topics, registry=parsed, numerics=numerics)
