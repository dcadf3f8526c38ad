"""CloudEvents on Kafka: structured and binary mode, also mixed in one batch."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import enrich_world as world

from headrace.enrichers.decode import Decoded, Decoder
from headrace.schemas.batch import Headers
from headrace.schemas.errors import PipelineFileError
from headrace.schemas.input import Input, Metric

SPEC = Input(format="cloudevents", entity="subject", metrics={"load": Metric(path="load")})
TIME = "2026-11-21T10:00:00Z"
STRUCTURED: dict[str, Any] = {
    "specversion": "1.0",
    "id": "e1",
    "source": "/plant",
    "type": "reading",
    "subject": "d1",
    "time": TIME,
    "data": {"load": 4.5},
}
BINARY: list[tuple[str, bytes]] = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"e2"),
    ("ce_source", b"/plant"),
    ("ce_type", b"reading"),
    ("ce_subject", b"d2"),
    ("ce_time", TIME.encode()),
]


def decoded(*records: tuple[bytes, Headers | None], spec: Input = SPEC) -> Decoded:
    """What records of these values and headers become."""
    values = [value for value, _ in records]
    headers: list[Headers] | None = None
    if any(found is not None for _, found in records):
        headers = [found or () for _, found in records]
    return Decoder(spec)(world.batch(values, headers=headers))


def structured(**changes: Any) -> tuple[bytes, None]:
    """A structured event."""
    return json.dumps({**STRUCTURED, **changes}).encode(), None


def test_both_modes_in_one_batch() -> None:
    """Structured and binary records become the same kind of event."""
    events = decoded(structured(), (b'{"load": 5.5}', BINARY)).events

    assert (events.ids, events.entities) == (["e1", "e2"], ["d1", "d2"])
    assert events.event_times_ms.tolist() == [world.START_MS] * 2
    assert events.metrics.tolist() == [[4.5], [5.5]]


def test_a_metric_is_no_attribute() -> None:
    """Attributes are text: a metric read from one is refused before any record."""
    spec = Input(format="cloudevents", metrics={"load": Metric(path="source")})
    with pytest.raises(PipelineFileError, match="'source'"):
        Decoder(spec)


def test_structured_without_headers() -> None:
    """A batch without any headers is structured."""
    assert decoded(structured()).events.entities == ["d1"]


def test_the_entity_may_be_the_source_or_in_the_data() -> None:
    """Paths name context attributes, or else fields of the data."""
    by_source = Input(format="cloudevents", entity="source", metrics=SPEC.metrics)
    by_data = Input(format="cloudevents", entity="unit", metrics=SPEC.metrics)

    assert decoded(structured(), spec=by_source).events.entities == ["/plant"]
    found = decoded(structured(data={"load": 1, "unit": "d7"}), spec=by_data)
    assert found.events.entities == ["d7"]


def test_dead_ones() -> None:
    """No version, another one, a bad value and bad header bytes are dead, neighbours are not."""
    found = decoded(
        structured(),
        structured(specversion=None),
        structured(specversion="0.3"),
        (b'{"load": "x"}', BINARY),
        (b'{"load": NaN}', BINARY),
        (b'{"load": 1e999}', BINARY),
        (b"", BINARY),
        (b'{"load": 1}', [*BINARY[:4], ("ce_subject", None), *BINARY[5:]]),
        (b'{"load": 1}', [("ce_specversion", b"1.0"), ("ce_subject", b"\xff")]),
        structured(data=None),
        structured(data={"load": 1e9999}),
    )

    assert found.events.ids == ["e1"]
    assert found.dead == {
        1: "event.type",
        2: "event.type",
        3: "event.type",
        4: "metric.range",
        5: "metric.range",
        6: "record.empty",
        7: "entity.missing",
        8: "json.invalid",
        9: "event.type",
        10: "metric.range",
    }
