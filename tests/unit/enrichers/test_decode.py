"""Decoding: what each record becomes, and that no record harms its neighbours."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from fakes import enrich_world as world

from headrace.enrichers.decode import Decoded, Decoder
from headrace.enrichers.registry import Registry
from headrace.enrichers.verdicts import CODES
from headrace.schemas.errors import PipelineFileError
from headrace.schemas.input import Attribute, Input, Metric
from headrace.schemas.strict import convert

LOAD = {"load": Metric(min=0, max=100)}
GOOD = {
    "id": "e1",
    "device_id": "d1",
    "time": "2026-11-21T10:00:00.000Z",
    "metrics": {"load": 5.5},
}


def record(**changes: Any) -> bytes:
    """The good event with some fields changed; None removes one."""
    found = {**GOOD, **changes}
    return json.dumps({key: v for key, v in found.items() if v is not None}).encode()


def decoded(*values: bytes | None, spec: Input | None = None, **columns: Any) -> Decoded:
    """What a batch of these records becomes."""
    return Decoder(spec or Input(metrics=LOAD))(world.batch(values, **columns))


def code(value: bytes | None, spec: Input | None = None, **columns: Any) -> str | None:
    """The dead letter code of one record; None when it is an event."""
    return decoded(value, spec=spec, **columns).dead.get(0)


DEAD: list[tuple[str, bytes | None, Input | None]] = [
    ("record.empty", None, None),
    ("record.empty", b"", None),
    ("record.size", record(), Input(metrics=LOAD, max_event_bytes=20)),
    ("json.invalid", b"{", None),
    ("json.invalid", b"{} {}", None),
    ("json.invalid", record() + b"\n" + record(), None),
    ("json.invalid", b'{"id": "\xff"}', None),
    ("json.invalid", b'{"id": "\\ud800"}', None),
    ("json.invalid", b'{"other": NaN}', None),
    ("json.invalid", record().replace(b"5.5", b"NaN").decode().encode("utf-16"), None),
    ("json.invalid", b"\xef\xbb\xbf" + record().replace(b"5.5", b"NaN"), None),
    ("json.invalid", record(device_id="d\n1").replace(b"\\n", b"\n"), None),
    ("json.invalid", record() + b"\0", None),
    ("json.depth", b'{"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}", None),
    ("json.depth", b'{"x":"[]",' + b'"y":{' * 257, None),
    ("event.type", b"[1]", None),
    ("event.type", b"null", None),
    ("event.type", record(id=1.5), None),
    ("event.type", record(device_id=True), None),
    ("event.type", record(metrics=[1]), None),
    ("event.type", record(metrics={"load": "5"}), None),
    ("event.type", record(metrics={"load": True}), None),
    ("event.type", record(time=5), None),
    ("event.type", record(id=10**30), None),
    ("entity.missing", record(device_id=None), None),
    ("entity.missing", record(device_id=""), None),
    ("entity.size", record(device_id="d" * 257), None),
    ("id.size", record(id="e" * 257), None),
    ("time.missing", record(time=None), None),
    ("time.invalid", record(time="2026-02-30T10:00:00Z"), None),
    ("time.invalid", record(time=""), None),
    ("time.invalid", record(time="2026-11-21 10:00"), None),
    ("time.future", record(time="2026-11-21T12:00:00Z"), None),
    ("metric.missing", record(metrics=None), None),
    ("metric.missing", record(metrics={"load": None}), None),
    ("metric.range", record(metrics={"load": -0.1}), None),
    ("metric.range", record(metrics={"load": 101}), None),
    ("metric.range", record().replace(b"5.5", b"NaN"), None),
    ("metric.range", record().replace(b"5.5", b"-Infinity"), None),
    ("metric.range", record().replace(b"5.5", b"1e999"), None),
    ("metric.range", record().replace(b"5.5", b"1" * 400), None),
    ("metric.range", record(metrics={"load": 1e101}), Input(metrics={"load": Metric()})),
    ("time.missing", record(time=None), Input(metrics=LOAD, time_unit="ms")),
    ("time.invalid", record(time=1e300), Input(metrics=LOAD, time_unit="s")),
]


@pytest.mark.parametrize(("expected", "value", "spec"), DEAD)
def test_each_fault_has_its_code(expected: str, value: bytes | None, spec: Input | None) -> None:
    """A faulty record gets its code, alone in a batch and between good neighbours alike."""
    assert code(value, spec) == expected
    if expected != "record.size":
        good = record(time=1_795_255_200) if spec and spec.time_unit != "iso" else record()
        found = decoded(good, value, good, spec=spec)
        assert found.dead == {1: expected}
        assert found.rows.tolist() == [0, 2]


def test_every_code_is_reached() -> None:
    """The cases above and those of the key reach every code there is."""
    reached = {case[0] for case in DEAD} | {"key.missing", "key.mismatch"}

    assert reached == set(CODES)


def test_a_good_event_is_read_in_full() -> None:
    """Columns hold what the record says; raw content is in none of them."""
    found = decoded(record(payload="raw content"), first=7)
    events = found.events

    assert (events.ids, events.entities) == (["e1"], ["d1"])
    assert (events.offsets.tolist(), events.event_times_ms.tolist()) == ([7], [world.START_MS])
    assert events.metrics.tolist() == [[5.5]]
    assert "raw content" not in repr(events)


@pytest.mark.parametrize(
    ("key", "expected"), [(b"d1", None), (b"d2", "key.mismatch"), (None, "key.missing")]
)
def test_the_key_must_be_the_entity(key: bytes | None, expected: str | None) -> None:
    """With `key = "entity"` a record whose key is absent or another is dead."""
    assert code(record(), Input(metrics=LOAD, key="entity"), keys=[key]) == expected
    assert code(record(), keys=[key]) is None


def test_integers_are_metrics_and_identifiers() -> None:
    """An integer metric is a float, an integer id its decimal text."""
    events = decoded(record(id=17, device_id=-4, metrics={"load": 7})).events

    assert (events.ids, events.entities, events.metrics.tolist()) == (["17"], ["-4"], [[7.0]])


def test_negative_zero_is_zero() -> None:
    """A metric of -0.0 becomes 0.0: a minimum cannot depend on which of them came first."""
    assert not np.signbit(decoded(record(metrics={"load": -0.0})).events.metrics).any()


@pytest.mark.parametrize("id_path", [None, "id"])
def test_an_event_without_id_is_named_by_its_place(id_path: str | None) -> None:
    """Without an id the event's id is topic, partition and offset."""
    spec = Input(metrics=LOAD, id=id_path)
    assert decoded(record(id=None), first=9, spec=spec).events.ids == ["telemetry/2/9"]


def test_optional_metrics_are_nan() -> None:
    """An optional metric that is absent or null is NaN, and its event lives."""
    spec = Input(metrics={**LOAD, "heat": Metric(required=False)})
    events = decoded(record(), record(metrics={"load": 1, "heat": None}), spec=spec).events

    assert np.isnan(events.metrics[:, 1]).all()


def test_paths_reach_into_nested_objects() -> None:
    """Every field may lie anywhere in the payload, under any name."""
    spec = Input(
        entity="dev.name", id="dev.meta.n", time="at", time_unit="ms",
        metrics={"load": Metric(path="values.load %")},
        attributes={"site": Attribute(path="dev.site", values=("north", "south"))},
    )  # fmt: skip
    at = {"at": world.START_MS, "values": {"load %": 3}}
    north = {**at, "dev": {"name": "d1", "meta": {"n": "e1"}, "site": "north"}}
    west = {**at, "dev": {"name": "d2", "meta": {"n": "e2"}, "site": "west"}}
    events = decoded(*(json.dumps(v).encode() for v in (north, west)), spec=spec).events

    assert (events.entities, events.ids) == (["d1", "d2"], ["e1", "e2"])
    assert events.metrics.tolist() == [[3.0], [3.0]]
    assert events.attributes == {"site": ["north", "other"]}


def test_one_path_may_serve_twice() -> None:
    """A path that is time and label too kills only the event whose value is no time."""
    spec = Input(metrics=LOAD, attributes={"at": Attribute(path="time")})
    found = decoded(record(), record(time=5), spec=spec)

    assert found.events.attributes == {"at": ["2026-11-21T10:00:00.000Z"]}
    assert found.dead == {1: "event.type"}


def test_labels_of_any_scalar() -> None:
    """An attribute may be text, number, boolean or absent; long text is cut."""
    spec = Input(metrics=LOAD, attributes={"mode": Attribute(default="none")})
    modes = ["x" * 70, 3, True, 1.5, None]
    events = decoded(*(record(mode=mode) for mode in modes), spec=spec).events

    assert events.attributes["mode"] == ["x" * 64, "3", "true", "1.5", "none"]


def test_the_registry_adds_attributes() -> None:
    """Registry columns become attributes, by entity."""
    decode = Decoder(Input(metrics=LOAD), Registry({"line": {"d1": "north"}}))
    events = decode(world.batch([record(), record(device_id="d9")])).events

    assert events.attributes == {"line": ["north", "other"]}


def test_numeric_times_do_not_depend_on_neighbours() -> None:
    """A nanosecond integer beside a float is read as exactly as alone."""
    spec = Input(metrics=LOAD, time_unit="ns")
    exact = record(time=1_795_255_200_122_999_999)
    rough = record(time=1.7952552001e18)

    alone = decoded(exact, spec=spec).events.event_times_ms[0]
    beside = decoded(exact, rough, spec=spec).events.event_times_ms[0]
    assert alone == beside == 1_795_255_200_122


@pytest.mark.parametrize("log_time", [2**63 - 1, world.START_MS])
def test_a_brokers_time_may_be_any(log_time: int) -> None:
    """Where producers set the broker's time, its largest value makes no event one of the future."""
    assert code(record(), log_times=[log_time]) is None


@pytest.mark.parametrize("span", [float("inf"), float("nan"), 1e300, 0.0])
def test_a_span_fits_any_time(span: float) -> None:
    """A span that no time can be moved by is refused with the file, not at the first event."""
    tree = {"metrics": {"load": {}}, "max_skew_s": span}
    with pytest.raises(ValueError, match="max_skew_s"):
        convert(tree, Input)


def test_a_path_is_a_value_or_an_object() -> None:
    """A mapping that needs a path to be both is refused with the path's name."""
    with pytest.raises(PipelineFileError, match="'metrics'"):
        Decoder(Input(entity="metrics", metrics=LOAD))


@pytest.mark.parametrize(
    "spec",
    [
        Input(metrics={"load": Metric(path="payload.load")}, raw=("payload",)),
        Input(metrics=LOAD, attributes={"who": Attribute(path="user.name")}, personal=("user",)),
        Input(metrics=LOAD, entity="user", personal=("user",)),
        Input(metrics=LOAD, entity="user", raw=("user",), entity_personal=True),
    ],
)
def test_what_is_withheld_is_not_read(spec: Input) -> None:
    """A mapping that reads a raw or personal field is refused before any record."""
    with pytest.raises(PipelineFileError, match="declares raw or personal"):
        Decoder(spec)


def test_a_personal_entity_is_read_when_declared() -> None:
    """An entity that is personal, and said to be, is still the key of its features."""
    spec = Input(metrics=LOAD, personal=("device_id",), entity_personal=True)
    assert decoded(record(), spec=spec).events.entities == ["d1"]


def test_a_path_has_one_type() -> None:
    """A mapping that reads one path as a number and as a text is refused."""
    with pytest.raises(PipelineFileError, match="two types"):
        Decoder(Input(entity="metrics.load", metrics=LOAD))
