"""The topics of a pipeline: names, partitions, retention and what class of data they hold."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from headrace.schemas.pipeline import Pipeline

EVENT_LIMIT_BYTES = 8 << 20
"""`max.message.bytes` of every topic: a record of the 1 MiB event limit with room for headers."""

BLOCK_LIMIT_BYTES = 512 << 10
"""A feature block is split above this, so that it fits any broker's defaults."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic.

    Attributes:
        name: Its name on the bus.
        stage: What it carries.
        partitions: Its partition count.
        retention_ms: How long records are kept, milliseconds.
        data: ``raw`` never leaves the site; ``derived`` stays at the site by default; ``central``
            may travel upstream.
        ours: We may create and configure it; false for a topic the pipeline file names.
    """

    name: str
    stage: str
    partitions: int
    retention_ms: int
    data: Literal["raw", "derived", "central"]
    ours: bool


@dataclass(frozen=True, slots=True)
class PipelineTopics:
    """Every topic of one pipeline; `keyed` is None where there is no intake stage."""

    telemetry: TopicSpec
    keyed: TopicSpec | None
    deadletter: TopicSpec
    late: TopicSpec
    features: TopicSpec
    predictions: TopicSpec
    partials: TopicSpec
    summaries: TopicSpec
    observed: TopicSpec

    def all(self) -> tuple[TopicSpec, ...]:
        """Each of them, in the order of the data path."""
        every = (getattr(self, field.name) for field in fields(self))
        return tuple(spec for spec in every if spec is not None)

    @property
    def enriched(self) -> TopicSpec:
        """What ENRICH reads: telemetry, or what the intake stage made of it."""
        return self.keyed or self.telemetry


def topics_of(pipeline: Pipeline) -> PipelineTopics:
    """The topics of a pipeline, ``headrace.<pipeline>.<stage>.v1`` unless named in the file.

    Features and predictions have telemetry's partition count: a record of telemetry partition p
    ends in partition p of both, so a device's order holds from end to end. Partials, summaries
    and observed, few records of all partitions together, have one.
    """
    t = pipeline.topics

    def spec(
        stage: str, name: str | None, hours: float, data: Literal["raw", "derived", "central"]
    ) -> TopicSpec:
        own = f"headrace.{pipeline.name}.{stage}.v1"
        partitions = 1 if stage in ("partials", "summaries", "observed") else t.partitions
        return TopicSpec(
            name or own, stage, partitions, round(hours * 3_600_000), data, ours=name is None
        )

    return PipelineTopics(
        telemetry=spec("telemetry", t.telemetry, t.raw_hours, "raw"),
        keyed=spec("keyed", t.keyed, t.raw_hours, "raw") if pipeline.input.rekey else None,
        deadletter=spec("deadletter", t.deadletter, t.raw_hours, "raw"),
        late=spec("late", t.late, t.raw_hours, "raw"),
        features=spec("features", t.features, t.raw_hours, "derived"),
        predictions=spec("predictions", t.predictions, t.derived_hours, "derived"),
        partials=spec("partials", t.partials, t.raw_hours, "derived"),
        summaries=spec("summaries", t.summaries, t.central_hours, "central"),
        observed=spec("observed", t.observed, t.derived_hours, "derived"),
    )
