"""The forms an event may come in, and records of any of them with one field set to any bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

ABSENT = b""
"""Instead of a field's JSON text: the field is not there."""
_HERE = "@here@"

_FILE = """
name = "{name}"

[input]
{key}
allowed_lateness_s = 5.0
{mapping}

[views.machine]
features = [
  {{ op = "raw", metrics = ["*"] }}, {{ op = "ewma", metrics = ["*"], alpha = 0.1 }},
  {{ op = "count", window_s = 4.0 }}, {{ op = "std", metrics = ["load"], window_s = 4.0 }},
]

[model]
file = "model.onnx"

[serving]
cache = "off"

[topics]
partitions = 2

[delivery]
start = "earliest"
batch_rows = {rows}
dead_letter_share = 1.0
"""

WIDTH = 6
"""Columns of the features."""


@dataclass(frozen=True)
class Record:
    """One record as a producer sends it."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


@dataclass(frozen=True)
class Event:
    """What an event says, whatever its form."""

    id: str
    entity: str
    time_ms: int
    load: float


@dataclass(frozen=True)
class Form:
    """One way of writing events.

    Attributes:
        name: For test ids.
        mapping: Its part of ``[input]``.
        unit: How it writes times.
        paths: Field to its path in the JSON object; those of the headers are not there.
        constant: Fields that every event has.
        headers: Field to the header that holds it instead.
    """

    name: str
    mapping: str
    unit: str
    paths: Mapping[str, tuple[str, ...]]
    constant: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def file(self, name: str, *, rows: int = 500, key: str = "entity") -> str:
        """A pipeline file that reads it; `key` is a rule of the key, or ``rekey``."""
        rule = "rekey = true" if key == "rekey" else f'key = "{key}"'
        return _FILE.format(name=name, mapping=self.mapping, rows=rows, key=rule)

    def time(self, time_ms: int) -> bytes:
        """A time as JSON."""
        if self.unit == "ms":
            return b"%d" % time_ms
        moment = datetime.fromtimestamp(time_ms / 1000, UTC)
        return json.dumps(f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z").encode()

    def texts(self, event: Event) -> dict[str, bytes]:
        """Every field as JSON."""
        return {
            "id": json.dumps(event.id).encode(),
            "entity": json.dumps(event.entity).encode(),
            "time": self.time(event.time_ms),
            "load": json.dumps(event.load).encode(),
        }

    def record(self, event: Event, **fields: bytes) -> Record | None:
        """An event with some fields' JSON text replaced; None where this form cannot say so.

        Fields that lie in headers can be texts only, which hold any bytes there.
        """
        texts = self.texts(event) | fields
        headers = [("ce_specversion", b"1.0"), ("ce_type", b"reading")] if self.headers else []
        for name, header in self.headers.items():
            text = texts[name]
            if text == ABSENT:
                continue
            if not text.startswith(b'"'):
                return None
            headers.append((header, _unquoted(text)))
        body = {name: texts[name] for name in self.paths}
        return Record(event.entity.encode(), self._body(body), tuple(headers))

    def _body(self, texts: Mapping[str, bytes]) -> bytes:
        tree: dict[str, Any] = json.loads(json.dumps(self.constant))
        for name, path in self.paths.items():
            if texts[name] == ABSENT:
                continue
            place = tree
            for step in path[:-1]:
                place = place.setdefault(step, {})
            place[path[-1]] = f"{_HERE}{name}"
        value = json.dumps(tree, separators=(",", ":")).encode()
        for name, text in texts.items():
            value = value.replace(b'"%s%s"' % (_HERE.encode(), name.encode()), text)
        return value


def _unquoted(text: bytes) -> bytes:
    try:
        found: str = json.loads(text)
        return found.encode()
    except ValueError:  # bytes that JSON does not take, and a header does
        return text[1:-1]


def with_body(change: Callable[[bytes], bytes | None]) -> Callable[[Record], Record]:
    """A record whose value is another."""
    return lambda record: replace(record, value=change(record.value or b""))


_METRICS = """
[input.metrics]
load = {{ min = -1e6, max = 1e6{load} }}
heat = {{ required = false{heat} }}
""".replace("{{", "{").replace("}}", "}")


def _metrics(load: str = "", heat: str = "") -> str:
    return _METRICS.replace("{load}", load).replace("{heat}", heat)


DEFAULT = Form(
    "default",
    _metrics(),
    "iso",
    {"id": ("id",), "entity": ("device_id",), "time": ("time",), "load": ("metrics", "load")},
    {"metrics": {}, "seq": 7},
)
MAPPED = Form(
    "mapped",
    'entity = "asset.serial"\nid = "asset.n"\ntime = "at.ms"\ntime_unit = "ms"\n'
    + _metrics(', path = "readings.load %"', ', path = "readings.heat"'),
    "ms",
    {
        "id": ("asset", "n"),
        "entity": ("asset", "serial"),
        "time": ("at", "ms"),
        "load": ("readings", "load %"),
    },
)
_CLOUD = 'format = "cloudevents"\nentity = "subject"\n' + _metrics(
    ', path = "load"', ', path = "heat"'
)
STRUCTURED = Form(
    "structured",
    _CLOUD,
    "iso",
    {"id": ("id",), "entity": ("subject",), "time": ("time",), "load": ("data", "load")},
    {"specversion": "1.0", "source": "/plant", "type": "reading", "data": {}},
)
BINARY = Form(
    "binary",
    _CLOUD,
    "iso",
    {"load": ("load",)},
    {},
    {"id": "ce_id", "entity": "ce_subject", "time": "ce_time"},
)
FORMS = (DEFAULT, MAPPED, STRUCTURED, BINARY)
