"""The prediction: one JSON record per event, encoded a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from headrace.schemas.batch import I64
from headrace.schemas.fragments import iso_times, numbers, strings
from headrace.schemas.ids import prediction_ids
from headrace.schemas.protocols import ModelIdentity, Scores


class PredictionModel(msgspec.Struct, frozen=True):
    """Which model answered.

    Attributes:
        name: Model name.
        version: Version of the pipeline file's model entry.
        digest: First 8 hex digits of the BLAKE2b digest of the ONNX file.
    """

    name: str
    version: int
    digest: str


class PredictionTimes(msgspec.Struct, frozen=True):
    """When, in milliseconds since 1970.

    Attributes:
        device: The device's own time of the event.
        ingest: The broker's time of the telemetry record.
        served: The serving worker's time when it encoded the prediction.
    """

    device: int
    ingest: int
    served: int


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """One prediction as consumers read it.

    Attributes:
        id: Same event, same id: 32 hex digits over pipeline and source coordinates.
        rev: Revision; a higher one supersedes a lower one of the same id.
        event_id: Id the producer gave the event.
        device_id: Entity.
        event_time: Device time, RFC 3339.
        score: Score of the model; None where it was refused.
        label: Label by the pipeline's threshold.
        confidence: 0.5 (at the threshold) to 1.
        tier: Who answered: ``light``, ``cache``, later ``heavy``.
        flags: ``rebuilt``: features from a truncated history.
        feature_age_ms: Broker time of the event less its device time, milliseconds.
        model: Which model.
        source: Telemetry record behind it, ``topic[partition]@offset``.
        times_ms: When.
        values: Further named outputs of the model.
    """

    id: str
    rev: int
    event_id: str
    device_id: str
    event_time: str
    score: float | None
    label: str
    confidence: float | None
    tier: str
    flags: tuple[str, ...]
    feature_age_ms: int
    model: PredictionModel
    source: str
    times_ms: PredictionTimes
    values: dict[str, float | None] = {}


@dataclass(slots=True)
class PredictionColumns:
    """Predictions for N events of one source partition, before they are encoded.

    Attributes:
        pipeline: Pipeline name.
        model: Which model answered.
        topic: Source topic.
        partition: Source partition.
        offsets: int64 (N,), source offsets.
        event_times_ms: int64 (N,), milliseconds since 1970.
        log_times_ms: int64 (N,), broker time, milliseconds since 1970.
        event_ids: N event ids as JSON string insides.
        entities: N entities as JSON string insides.
        scores: Scores of the N rows.
        labels: Label of a low and of a high score.
        served_ms: Now, milliseconds since 1970.
        flags: Flags of every row.
    """

    pipeline: str
    model: ModelIdentity
    topic: str
    partition: int
    offsets: I64
    event_times_ms: I64
    log_times_ms: I64
    event_ids: list[bytes]
    entities: list[bytes]
    scores: Scores
    labels: tuple[str, str]
    served_ms: int
    flags: tuple[str, ...] = field(default=())


def encode_predictions(batch: PredictionColumns) -> list[bytes]:
    """One JSON record per row (see `Prediction`); all that is constant is encoded once.

    Returns:
        N values, UTF-8 JSON.

    Delivery: the bytes depend on nothing but the columns, so a repeat of the same columns is
    equal to the letter.
    """
    s = batch.scores
    label = strings(batch.labels)
    tiers = strings(s.tiers)
    columns = [
        prediction_ids(batch.pipeline, batch.topic, batch.partition, batch.offsets),
        batch.event_ids,
        batch.entities,
        iso_times(batch.event_times_ms),
        numbers(s.score),
        [label[high] for high in s.high.tolist()],
        numbers(s.confidence),
        [tiers[tier] for tier in s.tier.tolist()],
        numbers(batch.log_times_ms - batch.event_times_ms),
        numbers(batch.offsets),
        numbers(batch.event_times_ms),
        numbers(batch.log_times_ms),
        *(numbers(column) for column in s.values.values()),
    ]
    template = _template(batch)
    return [template % row for row in zip(*columns, strict=True)]


def _template(batch: PredictionColumns) -> bytes:
    """The record with ``%b`` where a column goes; constants have their ``%`` doubled."""
    model = PredictionModel(batch.model.name, batch.model.version, batch.model.digest)
    values = b",".join(
        b'"' + _constant(name) + b'":%b' for name in strings(list(batch.scores.values))
    )
    return b"".join(
        (
            b'{"id":"%b","rev":0,"event_id":"%b","device_id":"%b","event_time":"%b"',
            b',"score":%b,"label":"%b","confidence":%b,"tier":"%b","flags":',
            _constant(msgspec.json.encode(batch.flags)),
            b',"feature_age_ms":%b,"model":',
            _constant(msgspec.json.encode(model)),
            b',"source":"',
            _constant(strings([f"{batch.topic}[{batch.partition}]@"])[0]),
            b'%b","times_ms":{"device":%b,"ingest":%b,"served":',
            str(batch.served_ms).encode(),
            b"}",
            b',"values":{' + values + b"}" if values else b"",
            b"}",
        )
    )


def _constant(text: bytes) -> bytes:
    return text.replace(b"%", b"%%")
