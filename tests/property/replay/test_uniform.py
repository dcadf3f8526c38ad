"""Columns of records laid out alike are the exact ones, bit for bit; the rest is left alone."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from fakes.services import without
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.enrichers.decode import Decoder
from headrace.enrichers.registry import NO_REGISTRY, Registry
from headrace.schemas.batch import RecordBatch
from headrace.schemas.input import Input
from headrace.streams.bus.raw_batch import RawBatch
from headrace.streams.replay import uniform
from headrace.streams.replay.layout import Layout
from headrace.streams.replay.uniform import Uniform

try:
    import pyarrow as pa
except ImportError:
    without("pyarrow is not installed; install the extra `tables`")

SPECS: list[dict[str, Any]] = [
    {"metrics": {"a": {"min": -5.0, "max": 1e3}, "b": {"required": False}}, "key": "entity"},
    {"metrics": {"a": {"path": "m.a"}, "b": {"path": "m.n.b", "required": False}}, "id": ""},
    {"metrics": {"a": {}}, "time_unit": "ms", "attributes": {"kind": {"values": ["x", "y"]}}},
    {"metrics": {"a": {}}, "time_unit": "s", "attributes": {"kind": {}, "id": {}}, "id": ""},
    {"metrics": {"a": {"path": "a"}}, "max_event_bytes": 130, "entity": "id", "rekey": True},
    {"metrics": {"a": {"path": "a"}}, "rekey": True, "id": ""},
]
TEMPLATES = [
    '{"id":"%I","device_id":"%D","time":"%T","metrics":{"a":%N,"b":%N},"x":"%S"}',
    '{"id":"%I","device_id":"%D","time":%M,"kind":"%K", "metrics" : {"a":%N} }',
    '{"a":%N,"m":{"a":%N,"n":{"b":%N}},"id":"%I","time":"%T","device_id":"%D","on":true}',
    '{"id":"%I","device_id":"%D","time":"%T","metrics":{"a":%N,"b":null},"o":{},"x":%N}',
    '{"id":"%I","device_id":"%D","time":"%T","metrics":{"a":%N,"b":%N},"v":[1,2]}',
]
FITTING = [(0, 0), (1, 2), (2, 1), (3, 1), (4, 2)]
NUMBERS = [
    "0", "-0", "-0.0", "7", "12.50", "-3.25", "0.1", "1e2", "01", ".5", "5.", "-", "1.2.3", "--1",
    "1-2", "nan", "inf", "-.5", "+1", "9" * 30, "9" * 330, "1" + "0" * 100, "0.30000000000000004",
    "9007199254740993", "true", "null", '"7"', "0x1", "1_0", "2.2250738585072011e-308", "1 ", "00",
]  # fmt: skip
_PIECES = {
    "%N": st.sampled_from(NUMBERS[:7]) | st.floats(-9, 999).map(repr) | st.sampled_from(NUMBERS),
    "%I": st.text("ab}, {:é\\n", max_size=4) | st.just("i" * 257),
    "%D": st.sampled_from(["d1", "d2", "d3", "", "}"]),
    "%S": st.text('a} ,:{"', max_size=5),
    "%K": st.sampled_from(["x", "y", "z", "", "k" * 70]),
    "%M": st.sampled_from(["0", "5", "1000", "-7", "1.5", "99999999999999999", str(2**63)]),
    "%T": st.sampled_from(
        ["1970-01-01T00:00:01Z", "1970-01-01T00:00:02.5Z", "1970-01-01T01:00:00+01:00",
         "1969-12-31T23:59:60Z", "1970-01-01t00:00:01z", "2070-01-01T00:00:00Z", "x", ""]
    ),
}  # fmt: skip
_NOISE = st.sampled_from(
    [b'"', b"\\", b",", b"{", b"}", b":", b"0", b".", b"-", b"\n", b"\xff", b" "]
)


@st.composite
def _filled(draw: Any, template: str, rare: bool) -> bytes:
    text = template
    for name, values in _PIECES.items():
        while name in text:
            plain = {"%N": "1.5", "%I": "i", "%D": "d1", "%S": "s", "%K": "x", "%M": "7"}
            usual = plain.get(name, "1970-01-01T00:00:01Z")
            value = draw(values) if not rare or draw(st.integers(0, 9)) == 0 else usual
            text = text.replace(name, value, 1)
    raw = text.encode()
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(_NOISE) + raw[at + draw(st.integers(0, 1)) :]
    return raw


@st.composite
def batches(draw: Any) -> tuple[Input, Registry, RecordBatch]:
    numbers = st.tuples(st.integers(0, len(SPECS) - 1), st.integers(0, len(TEMPLATES) - 1))
    number, other = draw(st.sampled_from(FITTING) | numbers)
    spec, template = msgspec.convert(SPECS[number], Input), TEMPLATES[other]
    rare = draw(st.booleans())
    values: list[bytes | None] = [
        draw(_filled(template, rare)) for _ in range(draw(st.integers(1, 4)))
    ]
    if draw(st.integers(0, 19)) == 0:
        values[-1] = draw(st.sampled_from([None, b"", b"{}"]))
    keys = [draw(st.sampled_from([b"d1", b"d1", b"d1", b"d2", None])) for _ in values]
    registry = draw(st.sampled_from([NO_REGISTRY, Registry({"site": {"d1": "north"}})]))
    return spec, registry, batch(values, keys)


def batch(values: list[bytes | None], keys: list[bytes | None]) -> RecordBatch:
    count = len(values)
    return RecordBatch("t", 2, np.arange(7, 7 + count), np.full(count, 2000), keys, values)


def bits(column: Any) -> list[Any]:
    if pa.types.is_floating(column.type):
        return [None if v is None else np.float64(v).tobytes() for v in column.to_pylist()]
    return column.to_pylist()  # type: ignore[no-any-return]


def exact(decode: Decoder, records: RecordBatch) -> dict[int, list[Any]]:
    """Rows of the events, by their rows in the batch."""
    done = decode(records)
    events = done.events
    metrics = [[None if np.isnan(v) else v.tobytes() for v in c] for c in events.metrics.T]
    columns: list[list[Any]] = [events.event_times_ms.tolist(), events.ids, events.entities]
    columns += [*metrics, *events.attributes.values()]
    rows = map(list, zip(*columns, strict=True))
    return dict(zip(done.rows.tolist(), rows, strict=True))


def check(
    spec: Input, registry: Registry, records: RecordBatch, uniform: Uniform | None = None
) -> list[int]:
    """Rows that were read, in order; they are the exact ones."""
    decode = Decoder(spec, registry)
    expected, seen = exact(decode, records), []
    for rows, columns in (uniform or Uniform(spec, registry, decode)).columns(RawBatch.of(records)):
        columns[0] = columns[0].cast("int64")
        found = list(map(list, zip(*map(bits, columns), strict=True)))
        assert found == [expected[row] for row in rows.tolist()]
        seen += rows.tolist()
    assert len(set(seen)) == len(seen)
    return sorted(seen)


@pytest.fixture(autouse=True)
def _every_row_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uniform, "LEAST_ROWS", 1)


@example((msgspec.convert(SPECS[0], Input), NO_REGISTRY, batch([b"{}"], [b"d1"])))
@settings(deadline=None)  # the first example imports pyarrow
@given(batches())
def test_whatever_the_records_are_its_columns_are_the_exact_ones_or_none(
    case: tuple[Input, Registry, RecordBatch],
) -> None:
    check(*case)


@pytest.mark.parametrize("number", NUMBERS)
def test_what_is_no_json_number_is_never_read_as_one(number: str) -> None:
    spec = msgspec.convert(SPECS[0], Input)
    filled = TEMPLATES[0].replace("%T", "1970-01-01T00:00:01Z").replace("%D", "d1")
    values = [filled.replace("%N", n, 1).replace("%N", "1").encode() for n in ("1", number)]
    check(spec, NO_REGISTRY, batch([*values], [b"d1", b"d1"]))


@pytest.mark.parametrize(("spec", "template"), FITTING[:4])
def test_a_plain_stream_takes_the_short_way(spec: int, template: int) -> None:
    """Else nobody would notice that it is gone: numbers of many lengths, all of them read."""
    number = iter(range(10_000))

    def value() -> bytes:
        text = TEMPLATES[template].replace("%T", "1970-01-01T00:00:01.500Z").replace("%M", "1")
        text = text.replace("%I", "id}").replace("%D", "d1").replace("%K", "y").replace("%S", "} ")
        while "%N" in text:
            text = text.replace("%N", str(next(number) / 8), 1)
        assert json.loads(text)
        return text.encode()

    records = batch([value() for _ in range(100)], [b"d1"] * 100)
    registry = Registry({"site": {"d1": "north"}})
    assert check(msgspec.convert(SPECS[spec], Input), registry, records) == list(range(100))


def test_one_record_that_differs_is_left_alone() -> None:
    """Dead, late, of another key, or just laid out otherwise: its neighbours are read."""
    spec = msgspec.convert(SPECS[0], Input)
    plain = TEMPLATES[0].replace("%T", "1970-01-01T00:00:01Z").replace("%D", "d1")
    plain = plain.replace("%I", "i").replace("%S", "s").replace("%N", "7")
    values: list[bytes | None] = [plain.encode()] * 9
    values[1] = plain.replace('"a":7', '"a":-').encode()
    values[2] = plain.replace("00:01Z", "99:01Z").encode()
    values[3] = plain.replace("1970", "2070").encode()
    values[4] = plain.replace('"x":"s"', '"x":"\\"').encode()
    values[5] = None
    values[6] = plain.replace('"d1"', '"d2"').encode()
    assert check(spec, NO_REGISTRY, batch(values, [b"d1"] * 9)) == [0, 7, 8]


@settings(deadline=None)
@given(st.integers(-(10**15) + 1, 10**15 - 1), st.integers(0, 14))
def test_numbers_are_read_as_json_has_them(digits: int, decimals: int) -> None:
    """To the bit, up to fifteen digits."""
    size = str(abs(digits)).rjust(decimals + 1, "0")
    text = ("-" if digits < 0 else "") + size[: len(size) - decimals]
    text += "." + size[-decimals:] if decimals else ""
    value = b'{"a":' + text.encode() + b"}"
    layout = Layout.of(value)
    assert layout is not None
    matrix = np.frombuffer(value, np.uint8).reshape(1, -1)
    if layout.decimals("a") >= 0:
        assert layout.numbers(matrix, "a")[0].tobytes() == np.float64(float(text) + 0.0).tobytes()
    else:
        assert len(size) > 15


def test_after_batches_of_other_layouts_it_is_tried_again_though_not_each_time() -> None:
    spec = msgspec.convert(SPECS[1], Input)
    used = Uniform(spec, NO_REGISTRY, Decoder(spec))
    plain = TEMPLATES[2].replace("%T", "1970-01-01T00:00:01Z").replace("%N", "1").encode()
    alike, other = batch([plain, plain], [b"k"] * 2), batch([b"{}", b"[]"], [b"k"] * 2)
    found = [
        len(check(spec, NO_REGISTRY, records, used)) for records in (alike, other, alike, alike)
    ]
    assert found == [2, 0, 0, 2]
