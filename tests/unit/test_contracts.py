"""The generated contracts say what the code does, and nothing in them dangles."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import jsonschema_rs
import msgspec
import numpy as np
import pytest

from headrace.schemas.asyncapi import MESSAGES, DeadLetterHeaders, document
from headrace.schemas.deadletter import LIMIT_BYTES, deadletter_headers, deadletter_value
from headrace.schemas.errors import Source
from headrace.schemas.event import Event
from headrace.schemas.generate import FOLDER, STRUCTS, contents, main, stale, write
from headrace.schemas.jsonschema import components, documented, standalone
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.prediction import Prediction, PredictionColumns, encode_predictions
from headrace.schemas.protocols import ModelIdentity, Scores
from headrace.schemas.topics import topics_of

ROOT = Path(__file__).parents[2]
SCHEMAS = {name: json.loads(text) for name, text in contents().items()}
PLAIN = sorted(name for name in SCHEMAS if name != "asyncapi.json")


def errors(name: str, value: object) -> list[str]:
    """What a schema finds wrong with a value."""
    found = jsonschema_rs.validator_for(SCHEMAS[f"{name}.json"]).iter_errors(value)
    return [error.message for error in found]


def references(node: object) -> Iterator[str]:
    """Every `$ref` below a node."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolve(document: dict, reference: str) -> object:
    """What a local reference points at; KeyError where there is nothing."""
    node: object = document
    for step in reference.removeprefix("#/").split("/"):
        node = node[step]
    return node


def asyncapi_breaks(made: dict) -> list[str]:
    """What breaks the structure of an AsyncAPI 3 document, of the parts that are used here."""
    found = []
    for reference in references(made):
        try:
            resolve(made, reference)
        except KeyError:
            found.append(f"{reference} points nowhere")
    if not made["asyncapi"].startswith("3."):
        found.append("no AsyncAPI 3 document")
    for name, channel in made["channels"].items():
        used = {part.split("}")[0] for part in channel["address"].split("{")[1:]}
        if used != set(channel.get("parameters", {})):
            found.append(f"channel {name}: parameters differ from its address")
        if not channel["messages"]:
            found.append(f"channel {name} carries nothing")
    for name, operation in made["operations"].items():
        if operation["action"] not in ("send", "receive"):
            found.append(f"operation {name} has no such action")
        channel = operation["channel"]["$ref"]
        if not all(m["$ref"].startswith(f"{channel}/messages/") for m in operation["messages"]):
            found.append(f"operation {name} has a message of another channel")
    return found


def test_committed_files_are_fresh():
    """The files in schemas/generated are those that the structs make now: else run make schemas."""
    assert stale(FOLDER) == []


def test_stale_files_are_named(tmp_path, capsys):
    """A missing, an edited and a left-over file are each named, and the check fails."""
    write(tmp_path)
    assert main(["--check"], tmp_path) == 0

    (tmp_path / "event.json").unlink()
    (tmp_path / "summary.json").write_text("{}\n")
    (tmp_path / "old.json").write_text("{}\n")

    assert stale(tmp_path) == ["event.json", "old.json", "summary.json"]
    assert main(["--check"], tmp_path) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert main([], tmp_path) == 0
    assert stale(tmp_path) == []


def test_unknown_argument_is_refused(capsys):
    """A wrong argument prints the usage and writes nothing."""
    assert main(["--force"]) == 2
    assert capsys.readouterr().err.startswith("usage:")


@pytest.mark.parametrize("name", PLAIN)
def test_schema_is_valid(name):
    """Each file is a JSON Schema of the dialect it names."""
    jsonschema_rs.meta.validate(SCHEMAS[name])


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_references_resolve(name):
    """No reference points nowhere."""
    for reference in references(SCHEMAS[name]):
        resolve(SCHEMAS[name], reference)


@pytest.mark.parametrize("name", PLAIN)
def test_every_field_is_described(name):
    """A reader who sees only the file knows what each field means."""
    bare = [
        f"{struct}.{field}"
        for struct, schema in SCHEMAS[name]["$defs"].items()
        for field, what in schema.get("properties", {}).items()
        if not what.get("description")
    ]

    assert bare == []


def test_units_come_from_names():
    """A field whose name ends in a unit carries it."""
    fields = SCHEMAS["prediction.json"]["$defs"]["Prediction"]["properties"]

    assert fields["feature_age_ms"]["x-unit"] == "ms"
    assert "x-unit" not in fields["score"]


def test_attributes_of_base_classes_are_described():
    """A struct's fields keep the text of the class that declares them."""
    bus = SCHEMAS["settings.json"]["$defs"]["BusSettings"]

    assert bus["properties"]["ca"]["description"].startswith("PEM file")
    assert "Attributes" not in bus["description"]


def test_a_struct_without_docstring_describes_nothing():
    """No text is made up, and no docstring of msgspec's own slips in."""

    class Bare(msgspec.Struct):
        size: int

    assert documented(Bare) == ("", {})
    assert "description" not in standalone(Bare, "bare")["$defs"]["Bare"]["properties"]["size"]


def test_two_structs_of_one_name_are_refused():
    """Their schemas would silently merge."""
    first = msgspec.defstruct("Same", [("a", int)])
    second = msgspec.defstruct("Same", [("b", str)])

    with pytest.raises(ValueError, match="two structs are called 'Same'"):
        components([first, second], "#/$defs/{name}")


def test_asyncapi_structure():
    """The AsyncAPI document holds together."""
    assert asyncapi_breaks(document()) == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("channels", "telemetry", "messages", "telemetry", "$ref"), "#/components/messages/gone"),
        (("channels", "features", "parameters"), {}),
        (("channels", "features", "messages"), {}),
        (("operations", "send-predictions", "action"), "emit"),
        (("operations", "send-late", "channel", "$ref"), "#/channels/features"),
        (("asyncapi",), "2.6.0"),
    ],
)
def test_asyncapi_structure_refuses(place, value):
    """Each way in which the document could fall apart is found."""
    broken = document()
    *path, last = place
    node = broken
    for step in path:
        node = node[step]
    node[last] = value

    assert asyncapi_breaks(broken)


def test_asyncapi_has_every_topic():
    """Each topic of a pipeline is a channel with its address, retention and class of data."""
    channels = document()["channels"]
    tree = {
        "name": "press",
        "input": {"metrics": {"load": {}}, "rekey": True},
        "views": {"press": {"features": [{"op": "raw", "metrics": ["*"]}]}},
        "model": {"file": "model.onnx"},
    }
    topics = topics_of(msgspec.convert(tree, Pipeline)).all()

    assert list(channels) == [topic.stage for topic in topics] == list(MESSAGES)
    for topic in topics:
        channel = channels[topic.stage]
        sizes = channel["bindings"]["kafka"]
        assert channel["address"].replace("{pipeline}", "press") == topic.name
        assert channel["x-data-class"] == topic.data
        assert sizes["partitions"] == topic.partitions
        assert sizes["topicConfiguration"]["retention.ms"] == topic.retention_ms


def test_examples_are_valid():
    """The examples that people copy pass the schemas, and the structs read them."""
    messages = document()["components"]["messages"]
    for stage, name, kind in [
        ("telemetry", "event", Event),
        ("predictions", "prediction", Prediction),
    ]:
        for example in messages[stage]["examples"]:
            assert errors(name, example["payload"]) == []
            msgspec.convert(example["payload"], kind)


def test_schema_refuses_a_broken_event():
    """The event's schema is more than an open object."""
    event = document()["components"]["messages"]["telemetry"]["examples"][0]["payload"]

    assert errors("event", event | {"metrics": {"temperature_c": "hot"}})
    assert errors("event", event | {"id": ""})
    assert errors("event", {k: v for k, v in event.items() if k != "device_id"})


@pytest.fixture
def columns():
    """Two rows: one with every character that JSON escapes, one that was refused."""
    return PredictionColumns(
        pipeline="press",
        model=ModelIdentity("press-anomaly", 3, "9f2c41d0"),
        topic="headrace.press.telemetry.v1",
        partition=2,
        offsets=np.array([8812, 8813]),
        event_times_ms=np.array([1795255200123, 1795255200124]),
        log_times_ms=np.array([1795255200135, 1795255200135]),
        event_ids=[rb"press-07-000123", rb"a \"quoted\" id"],
        entities=[b"press-07", b"press-08"],
        scores=Scores(
            np.array([0.93, np.nan], np.float32),
            np.array([0.88, np.nan], np.float32),
            np.array([True, False]),
            np.array([0, 1], np.uint8),
            ("light", "cache"),
            {"wear": np.array([0.5, np.nan], np.float32)},
        ),
        labels=("normal", "anomaly"),
        served_ms=1795255200139,
        flags=("rebuilt",),
    )


def test_predictions_as_encoded_are_valid(columns):
    """The bytes that leave the serving stage pass the schema that consumers are given."""
    predictions = [msgspec.json.decode(value) for value in encode_predictions(columns)]

    assert [errors("prediction", p) for p in predictions] == [[], []]
    assert predictions[1]["score"] is None
    assert errors("prediction", predictions[0] | {"rev": "0"})


@pytest.mark.parametrize("value", [b"{}", None, b"x" * (LIMIT_BYTES + 1)])
def test_deadletter_headers_are_valid(value):
    """The headers of every kind of dead letter pass their schema, which knows each of them."""
    headers = deadletter_headers(
        "metric.range",
        Source("headrace.press.telemetry.v1", 2, 8812),
        stage="enrich",
        pipeline="press",
        pipeline_digest="0123456789abcdef",
        first_seen_ms=1795255200135,
    )
    _, more = deadletter_value(value)
    named = {name: text.decode() for name, text in [*headers, *more]}

    assert errors("deadletter-headers", named) == []
    assert set(named) <= set(DeadLetterHeaders.__struct_fields__)
    assert errors("deadletter-headers", named | {"source": "somewhere"})


def test_pipeline_files_are_valid():
    """The examples' pipeline files pass the schema that editors are given."""
    for file in sorted(ROOT.glob("examples/*/pipeline.toml")):
        assert errors("pipeline", tomllib.loads(file.read_text("utf-8"))) == [], file


def test_unknown_pipeline_key_is_refused():
    """A typo in a pipeline file is found by an editor too."""
    assert errors("pipeline", {"nmae": "press"})


def test_every_struct_has_a_file():
    """The list of files is the list of structs and the one document."""
    assert {f"{name}.json" for name in STRUCTS} | {"asyncapi.json"} == set(SCHEMAS)
