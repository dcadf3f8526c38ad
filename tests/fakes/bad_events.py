"""Every kind of bad event, and what must become of it: one table for every suite."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fakes.input_forms import ABSENT, Event, Form, Record, with_body

Place = Literal["out", "dead", "late", "repeated"]
Make = Callable[[Form, Event], Record | None]

LIMIT = 1 << 20
STEP_MS = 100
"""Between two good events."""
DEVICES = 3
"""Good events come from so many in turn; each other event from a device of its own."""


@dataclass(frozen=True)
class Case:
    """One kind.

    Attributes:
        name: For people.
        place: Where it ends.
        code: Under which code; None where it is predicted or a repeat.
        make: From the event it would have been; None where the form cannot have it.
    """

    name: str
    place: Place
    code: str | None
    make: Make


def _put(**fields: bytes) -> Make:
    return lambda form, event: form.record(event, **fields)


def _body(change: Callable[[bytes], bytes | None]) -> Make:
    def make(form: Form, event: Event) -> Record | None:
        record = form.record(event)
        return record and with_body(change)(record)

    return make


def _in_body(**fields: bytes) -> Make:
    """Only where all these fields lie in the JSON object."""
    return lambda form, event: (
        form.record(event, **fields) if fields.keys() <= form.paths.keys() else None
    )


def _key(key: bytes | None) -> Make:
    def make(form: Form, event: Event) -> Record | None:
        record = form.record(event)
        return record and replace(record, key=key)

    return make


def _headers(*added: tuple[str, bytes | None]) -> Make:
    def make(form: Form, event: Event) -> Record | None:
        record = form.record(event)
        return record and replace(record, headers=(*record.headers, *added))

    return make


def _shifted(by_ms: int) -> Make:
    return lambda form, event: form.record(replace(event, time_ms=event.time_ms + by_ms))


def _time(iso: bytes, ms: bytes | None) -> Make:
    """A time as text and as a number; None where there is no such number."""

    def make(form: Form, event: Event) -> Record | None:
        text = iso if form.unit == "iso" else ms
        return None if text is None else form.record(event, time=text)

    return make


def _entity(name: str) -> Make:
    return lambda form, event: form.record(replace(event, entity=name))


def _again(form: Form, event: Event) -> Record | None:
    """The good event before it, to the letter."""
    return form.record(good(event.time_ms // STEP_MS, event.time_ms - STEP_MS // 2))


def _more(text: bytes) -> Callable[[bytes], bytes]:
    return lambda value: value[:-1] + b',"more":' + text + b"}"


def _padded(size: int) -> Callable[[bytes], bytes]:
    def pad(value: bytes) -> bytes:
        return _more(b'"%s"' % (b"x" * (size - len(value) - len(b',"more":""'))))(value)

    return pad


def _twice(value: bytes) -> bytes:
    """Every field of the object twice."""
    return value[:-1] + b"," + value[1:]


def _of_two(form: Form, event: Event) -> Record | None:
    """Every field twice, the second time as another device would say it."""
    record, other = form.record(event), form.record(replace(event, entity="another"))
    if record is None or other is None or "entity" not in form.paths:
        return None
    body = other.value or b""
    return with_body(lambda value: value[:-1] + b"," + body[1:])(record)


def _pretty(value: bytes) -> bytes:
    return b"\n\t" + json.dumps(json.loads(value), indent=2).encode() + b"\r\n"


CASES: tuple[Case, ...] = (
    Case("no JSON", "dead", "json.invalid", _body(lambda v: b"load: 71 %")),
    Case("cut off", "dead", "json.invalid", _body(lambda v: v[:-1])),
    Case("two in one record", "dead", "json.invalid", _body(lambda v: v + b"\n" + v)),
    Case("UTF-16", "dead", "json.invalid", _body(lambda v: v.decode().encode("utf-16"))),
    Case("no UTF-8", "dead", "json.invalid", _put(entity=b'"d\xff"')),
    Case("half a surrogate pair", "dead", "json.invalid", _in_body(entity=b'"\\ud800"')),
    Case("a line break in a text", "dead", "json.invalid", _in_body(entity=b'"d\n1"')),
    Case("a NUL in a text", "dead", "json.invalid", _in_body(entity=b'"d\x001"')),
    Case("a NUL behind it", "dead", "json.invalid", _body(lambda v: v + b"\0")),
    Case("line breaks between fields", "out", None, _body(_pretty)),
    Case("NUL and line break, escaped", "out", None, _put(id=b'"e\\u0000\\n1"')),
    Case("nested 10,000 deep", "dead", "json.depth", _body(_more(b"[" * 10_000 + b"]" * 10_000))),
    Case("nested 10,000 deep, open", "dead", "json.depth", _body(_more(b'{"a":' * 10_000))),
    Case("nested 200 deep", "out", None, _body(_more(b"[" * 200 + b"]" * 200))),
    Case("a list", "dead", "event.type", _body(lambda v: b"[%s]" % v)),
    Case("null", "dead", "event.type", _body(lambda v: b"null")),
    Case("a number as text", "dead", "event.type", _put(load=b'"5"')),
    Case("a number as truth", "dead", "event.type", _put(load=b"true")),
    Case("a number as list", "dead", "event.type", _put(load=b"[5]")),
    Case("a device as truth", "dead", "event.type", _in_body(entity=b"true")),
    Case("a device as fraction", "dead", "event.type", _in_body(entity=b"1.5")),
    Case("an id as object", "dead", "event.type", _in_body(id=b'{"n":1}')),
    Case("a time as list", "dead", "event.type", _in_body(time=b"[]")),
    Case("NaN", "dead", "metric.range", _put(load=b"NaN")),
    Case("Infinity", "dead", "metric.range", _put(load=b"Infinity")),
    Case("-Infinity", "dead", "metric.range", _put(load=b"-Infinity")),
    Case("beyond float", "dead", "metric.range", _put(load=b"1e999")),
    Case("beyond float, written out", "dead", "metric.range", _put(load=b"-" + b"9" * 5000)),
    Case("beyond its range", "dead", "metric.range", _put(load=b"1000000.5")),
    Case("almost nothing", "out", None, _put(load=b"4.9e-324")),
    Case("a thousand digits", "out", None, _put(load=b"0." + b"3" * 1000)),
    Case("without its metric", "dead", "metric.missing", _put(load=ABSENT)),
    Case("a metric that is null", "dead", "metric.missing", _put(load=b"null")),
    Case("every field twice", "out", None, _body(_twice)),
    Case("of two devices, the last counts", "dead", "key.mismatch", _of_two),
    Case("an unknown metric", "out", None, _body(_more(b'{"mood":"NaN"}'))),
    Case("5 MB", "dead", "record.size", _body(_padded(5_000_000))),
    Case("one byte too large", "dead", "record.size", _body(_padded(LIMIT + 1))),
    Case("as large as may be", "out", None, _body(_padded(LIMIT))),
    Case("empty", "dead", "record.empty", _body(lambda v: b"")),
    Case("no value", "dead", "record.empty", _body(lambda v: None)),
    Case("no key", "dead", "key.missing", _key(None)),
    Case("another's key", "dead", "key.mismatch", _key(b"g0")),
    Case("a key of bytes", "dead", "key.mismatch", _key(b"\xff\x00")),
    Case("a key of 10 kB", "dead", "key.mismatch", _key(b"k" * 10_000)),
    Case("no device", "dead", "entity.missing", _put(entity=ABSENT)),
    Case("an empty device", "dead", "entity.missing", _put(entity=b'""')),
    Case("a device of 10 kB", "dead", "entity.size", _entity("d" * 10_000)),
    Case("a device in any script", "out", None, _entity("Öfen/№ 7 🔥 {x}*\u202e'; DROP")),
    Case("an id of 10 kB", "dead", "id.size", _put(id=b'"%s"' % (b"i" * 10_000))),
    Case("no id", "out", None, _put(id=ABSENT)),
    Case("no time", "dead", "time.missing", _put(time=ABSENT)),
    Case("no such day", "dead", "time.invalid", _time(b'"2026-02-30T00:00:00Z"', b"1e300")),
    Case("10000", "dead", "time.invalid", _time(b'"10000-01-01T00:00:00Z"', b"253402300800000")),
    Case("no time zone", "dead", "time.invalid", _time(b'"2026-11-21T10:00:00"', None)),
    Case("a day from now", "dead", "time.future", _shifted(86_400_000)),
    Case("9999", "dead", "time.future", _time(b'"9999-12-31T23:59:59Z"', b"253402300799999")),
    Case("years old", "late", "time.late", _time(b'"2001-09-09T01:46:40+01:00"', b"1000000000")),
    Case("before 1970", "late", "time.late", _time(b'"1969-12-31T23:59:59.5Z"', b"-500")),
    Case("a leap second", "late", "time.late", _time(b'"2016-12-31T23:59:60Z"', None)),
    Case("year 1", "late", "time.late", _time(b'"0001-01-01T00:00:00Z"', b"-62135596800000")),
    Case("too far behind", "late", "time.late", _shifted(-5_500)),
    Case("a little behind", "out", None, _shifted(-2_000)),
    Case("seen before", "repeated", None, _again),
    Case("a header without a value", "out", None, _headers(("more", None), ("", b""))),
    Case("headers like ours", "out", None, _headers(("code", b"x"), ("headrace-attempt", b"-1"))),
)  # fmt: skip


def good(number: int, time_ms: int) -> Event:
    """A good event; the same number and time, the same event."""
    return Event(f"good-{number}", f"g{number % DEVICES}", time_ms, (number * 37 % 101) / 7)


@dataclass(frozen=True)
class Sent:
    """A log: each record with what it is, None for a good one."""

    records: list[Record]
    cases: list[Case | None]


def log_of(form: Form, start_ms: int, cases: Sequence[Case] = CASES) -> Sent:
    """Good events, one of each kind of bad one between any two of them, and one clock gone wild."""
    records: list[Record] = []
    kinds: list[Case | None] = []

    def add(record: Record | None, kind: Case | None) -> None:
        if record is not None:
            records.append(record)
            kinds.append(kind)

    for number, case in enumerate(cases):
        time_ms = start_ms + number * STEP_MS
        add(form.record(good(time_ms // STEP_MS, time_ms)), None)
        odd = Event(f"odd-{number}", f"odd-{number}", time_ms + STEP_MS // 2, 3.25)
        add(case.make(form, odd), case)
        if number >= len(cases) // 2:  # by then its past is past for everybody
            far, kind = WILD[number % len(WILD)]
            wild = Event(f"wild-{number}", "wild", time_ms + far, 1.5)
            add(form.record(wild), kind)
    return Sent(records, kinds)


def only_good(sent: Sent) -> list[Record]:
    """The same log without anything else."""
    return [r for r, kind in zip(sent.records, sent.cases, strict=True) if kind is None]


WILD: tuple[tuple[int, Case], ...] = (
    (31_536_000_000, Case("wild clock, a year on", "dead", "time.future", _body(lambda v: v))),
    (-31_536_000_000, Case("wild clock, a year back", "late", "time.late", _body(lambda v: v))),
    (0, Case("wild clock, right for once", "out", None, _body(lambda v: v))),
)
"""What a device with a wild clock sends in turn, and what becomes of it."""
