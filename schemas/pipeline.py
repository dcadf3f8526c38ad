"""The pipeline file: one declarative TOML file describes a flow with no Python."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from headrace.schemas.canary import Canary
from headrace.schemas.errors import PipelineFileError
from headrace.schemas.input import Devices, Input, Name
from headrace.schemas.objectives import Objectives, with_canary
from headrace.schemas.observe import Observe
from headrace.schemas.strict import convert, nearest
from headrace.schemas.summary import MAX_FREQUENT
from headrace.schemas.views import Column, View, expand, stored_view

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]


class Outputs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the model's outputs become score, label and confidence.

    Attributes:
        score: Name of the output that holds the score; default the model's first output of
            floats.
        column: Column of that output where it has several; negative counts from the end.
        threshold: A score at or above it gets `label`, one below it `otherwise`.
        label: Label of a high score.
        otherwise: Label of a low score.
        confidence: Output that holds the confidence; None derives it from the score's distance
            to the threshold.
        values: Further outputs to carry along by name.
    """

    score: str | None = None
    column: int = -1
    threshold: float = 0.5
    label: str = "anomaly"
    otherwise: str = "normal"
    confidence: str | None = None
    values: dict[Name, str] = {}


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The model to serve.

    Attributes:
        file: ONNX file, beside the pipeline file.
        name: Its name on predictions; default the pipeline's name.
        version: Its version on predictions.
        inputs: Feature columns in the order of the model's input; empty means all, in order.
        missing: What a missing feature (NaN) becomes on input.
        golden: JSON file of golden pairs ``{"inputs": [[…]], "scores": […], "tolerance": …}``,
            checked before the model is ready; None where there is none.
        batch_tolerance: Largest difference of a score between batches of different size; 0 is
            bit-equality. A model that needs more must opt in here.
        outputs: How its outputs are read.
    """

    file: str
    name: str | None = None
    version: Count = 1
    inputs: tuple[str, ...] = ()
    missing: float = 0.0
    golden: str | None = None
    batch_tolerance: Annotated[float, Meta(ge=0)] = 0.0
    outputs: Outputs = Outputs()


class Serving(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Serving policy.

    Attributes:
        max_batch_rows: Most rows of one session call.
        max_queue_delay_ms: Longest wait for company before a call; 0 takes what is there.
        cache: ``auto`` keeps a content-keyed cache only while it pays; ``on``, ``off``.
        cache_rows: Most rows the cache holds.
        cache_ttl_s: A cached row is not used after this long, seconds.
    """

    max_batch_rows: Count = 16_384
    max_queue_delay_ms: Annotated[float, Meta(ge=0)] = 0.0
    cache: Literal["auto", "on", "off"] = "auto"
    cache_rows: Count = 65_536
    cache_ttl_s: Seconds = 300.0


class Summary(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is summarized upstream.

    Attributes:
        window_s: Length of the tumbling event-time windows, seconds.
        group_by: Attributes whose values make the groups; empty is one group ``all``.
        metrics: Metrics whose moments are in the summary.
        top: How many of the most anomalous devices are named; always 0 where the entity key is
            personal.
        min_group: A group of fewer devices is suppressed: only its count of rows is released.
        quantiles: Whether a sketch of the score's and the metrics' quantiles is added.
        distinct: Whether a sketch is added that counts devices over sites that share some; never
            where the entity key is personal.
        frequent: Counters of a sketch of the devices that are anomalous most often, 0 for none;
            always 0 where the entity key is personal.
        idle_s: A partition without events for this long, by the broker's time, has its windows
            closed as if event time had gone on; longer than devices are silent in good order.
        amend_s: A summary that was released is released again, as a higher revision, for events
            that come up to this much event time later; those that come after are in no summary.
    """

    window_s: Seconds = 10.0
    group_by: tuple[Name, ...] = ()
    metrics: tuple[Name, ...] = ()
    top: Annotated[int, Meta(ge=0, le=100)] = 5
    min_group: Count = 1
    quantiles: bool = False
    distinct: bool = False
    frequent: Annotated[int, Meta(ge=0, le=MAX_FREQUENT)] = 0
    idle_s: Seconds = 60.0
    amend_s: Seconds = 300.0

    @property
    def window_ms(self) -> int:
        """Length of the windows, milliseconds."""
        return max(1, round(self.window_s * 1000))


class Topics(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Topic names and sizes; every name defaults to ``headrace.<pipeline>.<stage>.v1``.

    Attributes:
        partitions: Partitions of telemetry, and so of features and predictions.
        telemetry: Name of an existing topic to read instead.
        keyed: Name; where ``input.rekey`` is set.
        deadletter: Name.
        late: Name.
        features: Name.
        predictions: Name.
        partials: Name.
        summaries: Name.
        observed: Name.
        raw_hours: Retention of telemetry, dead letter, late, features and partials, hours.
        derived_hours: Retention of predictions and observed, hours.
        central_hours: Retention of summaries, hours.
    """

    partitions: Annotated[int, Meta(ge=1, le=10_000)] = 4
    telemetry: str | None = None
    keyed: str | None = None
    deadletter: str | None = None
    late: str | None = None
    features: str | None = None
    predictions: str | None = None
    partials: str | None = None
    summaries: str | None = None
    observed: str | None = None
    raw_hours: Seconds = 24.0
    derived_hours: Seconds = 168.0
    central_hours: Seconds = 2160.0


class Delivery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Delivery rules.

    Attributes:
        mode: ``at-least-once``: after a crash the batch in hand is published again, to the letter.
            ``exactly-once``: outputs and source offset of a batch are one Kafka transaction, so a
            reader of committed records sees nothing twice; needs Apache Kafka, costs latency.
        start: Where a group that never read begins: ``latest``, ``earliest`` or an RFC 3339 time.
        batch_rows: Most events of one batch.
        dead_letter_share: The worker stops when more than this share of the last thousand or
            more events is dead.
        dead_letter_min: The share is not looked at before this many events.
        redrive_attempts: An event that was tried this often is not redriven again.
        stuck_after_s: A partition with records to process and no progress for this long is stuck,
            seconds; time in which bus or store are away does not count.
        stuck_restart_s: A worker that is stuck or silent for this long is started again, seconds.
    """

    mode: Literal["at-least-once", "exactly-once"] = "at-least-once"
    start: str = "latest"
    batch_rows: Count = 8192
    dead_letter_share: Share = 0.5
    dead_letter_min: Count = 1000
    redrive_attempts: Count = 3
    stuck_after_s: Seconds = 30.0
    stuck_restart_s: Seconds = 120.0


class Pipeline(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole flow: input, features, model, summaries, topics, delivery.

    Attributes:
        name: Part of every topic name, consumer group and key of the store.
        description: For people.
        input: How a record becomes an event.
        devices: Device registry joined to each event; None for none.
        views: Name to feature view, in the order of the columns.
        model: The model to serve.
        serving: Serving policy.
        summary: What is summarized upstream.
        topics: Topic names and sizes.
        delivery: Delivery rules.
        observe: What is watched while it runs.
        slo: Service level objectives.
        canary: Probe events that are sent through it; None: there are none.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    description: str = ""
    input: Input
    devices: Devices | None = None
    views: Annotated[dict[Name, View], Meta(min_length=1)]
    model: Model
    serving: Serving = Serving()
    summary: Summary = Summary()
    topics: Topics = Topics()
    delivery: Delivery = Delivery()
    observe: Observe = Observe()
    slo: Objectives = Objectives()
    canary: Canary | None = None

    def columns(self) -> tuple[Column, ...]:
        """Every feature column, in order."""
        return expand(self.views, self.input.metric_names)

    def stored_views(self) -> dict[str, View]:
        """Each view by the name that the store has for its version."""
        return {stored_view(name, view.version): view for name, view in self.views.items()}

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """Attributes of an event: those of the payload, then those of the device registry."""
        registry = self.devices.columns if self.devices else ()
        return (*self.input.attributes, *registry)

    @property
    def model_inputs(self) -> tuple[str, ...]:
        """Feature columns the model reads, in its order."""
        return self.model.inputs or tuple(c.name for c in self.columns())

    @property
    def objectives(self) -> Objectives:
        """Those of the file; where there are probes, one of theirs in any case."""
        return self.slo if self.canary is None else with_canary(self.slo)

    @property
    def digest(self) -> str:
        """16 hex digits over everything in the file: the same file, the same digest."""
        content = msgspec.json.encode(self, order="sorted")
        return hashlib.blake2b(content, digest_size=8).hexdigest()


def load_pipeline(file: Path) -> Pipeline:
    """Read and check a pipeline file; ``file`` names in it stay relative to its folder.

    Raises:
        PipelineFileError: one line that names the file, the place and the remedy. Fatal.
    """
    try:
        tree = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PipelineFileError(f"reading pipeline file {str(file)!r} failed: {error}") from error
    try:
        pipeline = convert(tree, Pipeline)
        _check(pipeline)
    except ValueError as error:
        raise PipelineFileError(f"pipeline file {str(file)!r} is not valid: {error}") from error
    return pipeline


def _check(pipeline: Pipeline) -> None:
    """What types cannot say: names that refer to other names."""
    columns = {c.name for c in pipeline.columns()}
    _known("model.inputs", pipeline.model.inputs, columns)
    _listed(pipeline, "summary.group_by", pipeline.summary.group_by, "travel upstream")
    if (name := pipeline.observe.class_by) is not None:
        _listed(pipeline, "observe.class_by", (name,), "become a label of a metric")
    for which, objective_name, objective in pipeline.slo.every():
        counts = objective.kind in ("success", "canary")
        if (objective.within_ms is None) is not counts:
            raise ValueError(
                f"slo.{which}.{objective_name} is of kind {objective.kind!r}; within_ms is needed "
                f"by latency and freshness, and means nothing for success and canary"
            )
    _known("summary.metrics", pipeline.summary.metrics, pipeline.input.metric_names)
    if pipeline.canary is not None:
        _check_canary(pipeline.canary, pipeline.input)
    delivery = pipeline.delivery
    if delivery.stuck_restart_s < delivery.stuck_after_s:
        raise ValueError(
            f"delivery.stuck_restart_s is {delivery.stuck_restart_s:g} s, expected at least "
            f"stuck_after_s, which is {delivery.stuck_after_s:g} s"
        )
    if pipeline.input.rekey and pipeline.input.key == "entity":
        raise ValueError(
            'input.rekey gives every record its entity as key, so that input.key = "entity" has '
            "nothing to judge; take one of them out"
        )
    registry = pipeline.devices.columns if pipeline.devices else ()
    doubled = set(pipeline.input.attributes).intersection(registry)
    if doubled:
        raise ValueError(
            f"attributes {sorted(doubled)} come from both the payload and the registry"
        )


def _check_canary(canary: Canary, spec: Input) -> None:
    """A probe that is dead on arrival, or right by no score, tells nothing."""
    _known("canary.metrics", tuple(canary.metrics), spec.metric_names)
    missing = [n for n, one in spec.metrics.items() if one.required and n not in canary.metrics]
    if missing:
        raise ValueError(f"canary.metrics lacks {missing}, which input.metrics requires")
    if canary.least > canary.most:
        raise ValueError(
            f"canary.least is {canary.least:g}, expected at most canary.most, {canary.most:g}"
        )
    if canary.within_ms > canary.interval_s * 1000:
        raise ValueError(
            f"canary.within_ms is {canary.within_ms:g}, expected at most interval_s, which is "
            f"{canary.interval_s:g} s: nobody looks for a prediction any longer"
        )


def _listed(pipeline: Pipeline, place: str, names: tuple[str, ...], what: str) -> None:
    """Attributes whose values a producer cannot choose."""
    _known(place, names, pipeline.attribute_names)
    for name in names:
        if name in pipeline.input.attributes and not pipeline.input.attributes[name].values:
            raise ValueError(
                f"{place} names {name!r}, whose values are not listed; list them in "
                f"input.attributes.{name}.values, so that nothing else can {what}"
            )


def _known(place: str, names: tuple[str, ...], known: set[str] | tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{place} names {name!r}, which does not exist{nearest(name, known)}")
