"""One AsyncAPI 3 document: every topic, its messages, keys and headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from headrace.schemas.event import Event
from headrace.schemas.input import Input, Metric
from headrace.schemas.jsonschema import Schema, components
from headrace.schemas.observed import ObservedRecord
from headrace.schemas.pipeline import Model, Pipeline
from headrace.schemas.prediction import Prediction
from headrace.schemas.summary import SummaryRecord
from headrace.schemas.topics import EVENT_LIMIT_BYTES, TopicSpec, topics_of
from headrace.schemas.views import Feature, View

JSON = "application/json"
BINARY = "application/octet-stream"


class DeadLetterHeaders(msgspec.Struct, frozen=True, kw_only=True):
    """Record headers of a dead letter; every value is UTF-8 text.

    Attributes:
        code: Why it can never succeed; a code never changes its meaning.
        source: The record it was, `topic[partition]@offset`.
        stage: Stage that gave up on it.
        attempt: How often it has been tried, a decimal number from 1.
        pipeline: Name and digest of the pipeline file, `name@digest`.
        first_seen: Broker time of the original record, a decimal number of milliseconds since 1970.
        model: Digest of the model that refused it.
        redriven_to: Of a mark, code `redriven`: where the dead letter it names went.
        tombstone: `1` where the original record had no value.
        original_bytes: Size of a value over 1 MiB, of which the first 64 KiB are kept.
        original_digest: BLAKE2b-128 digest of such a value, hex.
        original_key_bytes: Size of a key over 64 KiB, of which the first 64 KiB are kept.
        original_headers_bytes: Size of headers over 1 MiB, of which none are kept.
    """

    code: str
    source: Annotated[str, Meta(pattern=r"^.+\[\d+\]@\d+$")]
    stage: str
    attempt: Annotated[str, Meta(pattern=r"^[1-9]\d*$")]
    pipeline: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]*@[0-9a-f]{16}$")]
    first_seen: Annotated[str, Meta(pattern=r"^-?\d+$")]
    model: str | None = None
    redriven_to: Annotated[str, Meta(pattern=r"^.+\[\d+\]@\d+$")] | None = None
    tombstone: Literal["1"] | None = None
    original_bytes: Annotated[str, Meta(pattern=r"^\d+$")] | None = None
    original_digest: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$")] | None = None
    original_key_bytes: Annotated[str, Meta(pattern=r"^\d+$")] | None = None
    original_headers_bytes: Annotated[str, Meta(pattern=r"^\d+$")] | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """What one topic carries.

    Attributes:
        action: What Headrace does with the topic: it receives from it or sends to it.
        summary: One line.
        content_type: Media type of the value.
        payload: Struct of the value; None where it is no JSON of ours.
        key: What the record key is; None for no key.
        headers: Struct of the record headers; None for none of ours.
    """

    action: Literal["receive", "send"]
    summary: str
    content_type: str = JSON
    payload: type[msgspec.Struct] | None = None
    key: str | None = None
    headers: type[msgspec.Struct] | None = None


MESSAGES: dict[str, Message] = {
    "telemetry": Message(
        "receive",
        "One event of a device, in the default form. A pipeline file can map any JSON instead.",
        payload=Event,
        key="Id of the device, UTF-8.",
    ),
    "keyed": Message(
        "send",
        "An event as it came in, on the partition of its device; only with `input.rekey`.",
        content_type=BINARY,
        key="Id of the device, UTF-8.",
    ),
    "deadletter": Message(
        "send",
        "A record that can never succeed: its original bytes, and why in the headers.",
        content_type=BINARY,
        key="Key of the original record, as read.",
        headers=DeadLetterHeaders,
    ),
    "late": Message(
        "send",
        "An event that came too late for its window: its original bytes, and where it was in the "
        "headers.",
        content_type=BINARY,
        key="Id of the device, UTF-8.",
        headers=DeadLetterHeaders,
    ),
    "features": Message(
        "send",
        "The features of one telemetry batch as columns: HRB1, a uint32 length, a JSON header of "
        "that length that names every column's dtype and shape, then the columns, little-endian, "
        "each at a multiple of 8 bytes.",
        content_type=BINARY,
    ),
    "predictions": Message(
        "send",
        "One prediction per event. The same event always has the same id.",
        payload=Prediction,
        key="Id of the device, UTF-8.",
    ),
    "partials": Message(
        "send",
        "What one partition knows of one window and group, or that it is past a window, as "
        "MessagePack; stays at the site.",
        content_type=BINARY,
        key="Window and group, or partition, UTF-8.",
    ),
    "summaries": Message(
        "send",
        "One window and group; the only data that leaves a site. A higher revision replaces it.",
        payload=SummaryRecord,
        key="Window and group, UTF-8.",
    ),
    "observed": Message(
        "send",
        "What was seen of the pipeline in about a minute: latencies, budgets, drift, incidents.",
        payload=ObservedRecord,
    ),
}


def document() -> Schema:
    """The document for a pipeline of any name, with the default sizes of its topics."""
    topics = topics_of(_any_pipeline()).all()
    structs = [s for m in MESSAGES.values() for s in (m.payload, m.headers) if s is not None]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Headrace",
            "version": "1.0.0",
            "description": "Topics of one pipeline. Raw topics never leave their site.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": JSON,
        "channels": {topic.stage: _channel(topic) for topic in topics},
        "operations": {
            f"{MESSAGES[topic.stage].action}-{topic.stage}": _operation(topic) for topic in topics
        },
        "components": {
            "messages": {topic.stage: _message(topic.stage) for topic in topics},
            "schemas": components(structs, "#/components/schemas/{name}"),
        },
    }


def _any_pipeline() -> Pipeline:
    """The smallest with every topic: only these are looked at, and its name is replaced."""
    return Pipeline(
        name="pipeline",
        input=Input(metrics={"value": Metric()}, rekey=True),
        views={"device": View(features=(Feature(op="raw", metrics=("*",)),))},
        model=Model(file="model.onnx"),
    )


def _channel(topic: TopicSpec) -> Schema:
    return {
        "address": topic.name.replace(".pipeline.", ".{pipeline}."),
        "description": MESSAGES[topic.stage].summary,
        "messages": {topic.stage: {"$ref": f"#/components/messages/{topic.stage}"}},
        "parameters": {"pipeline": {"description": "Name of the pipeline."}},
        "bindings": {
            "kafka": {
                "partitions": topic.partitions,
                "topicConfiguration": {
                    "cleanup.policy": ["delete"],
                    "retention.ms": topic.retention_ms,
                    "max.message.bytes": EVENT_LIMIT_BYTES,
                },
                "bindingVersion": "0.5.0",
            }
        },
        "x-data-class": topic.data,
    }


def _operation(topic: TopicSpec) -> Schema:
    message = MESSAGES[topic.stage]
    return {
        "action": message.action,
        "channel": {"$ref": f"#/channels/{topic.stage}"},
        "summary": message.summary,
        "messages": [{"$ref": f"#/channels/{topic.stage}/messages/{topic.stage}"}],
    }


def _message(stage: str) -> Schema:
    message = MESSAGES[stage]
    made: Schema = {
        "name": stage,
        "contentType": message.content_type,
        "summary": message.summary,
    }
    if message.payload is not None:
        made["payload"] = _reference(message.payload)
    if message.headers is not None:
        made["headers"] = _reference(message.headers)
    if message.key is not None:
        key = {"type": "string", "description": message.key}
        made["bindings"] = {"kafka": {"key": key, "bindingVersion": "0.5.0"}}
    if stage in EXAMPLES:
        made["examples"] = EXAMPLES[stage]
    return made


def _reference(kind: type[msgspec.Struct]) -> Schema:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


EXAMPLES: dict[str, list[dict[str, Any]]] = {
    "telemetry": [
        {
            "name": "press",
            "payload": {
                "id": "press-07-000123",
                "device_id": "press-07",
                "time": "2026-11-21T10:00:00.123Z",
                "seq": 123,
                "metrics": {"temperature_c": 71.2, "vibration_g": 0.31},
                "payload": "raw content, stays here",
            },
        }
    ],
    "predictions": [
        {
            "name": "anomaly",
            "payload": {
                "id": "64cb3ac709d58712273355adfade4830",
                "rev": 0,
                "event_id": "press-07-000123",
                "device_id": "press-07",
                "event_time": "2026-11-21T10:00:00.123Z",
                "score": 0.9312,
                "label": "anomaly",
                "confidence": 0.88,
                "tier": "light",
                "flags": [],
                "feature_age_ms": 12,
                "model": {"name": "press-anomaly", "version": 3, "digest": "9f2c41d0"},
                "source": "headrace.press.telemetry.v1[2]@8812",
                "times_ms": {
                    "device": 1795255200123,
                    "ingest": 1795255200135,
                    "served": 1795255200139,
                },
            },
        }
    ],
}
