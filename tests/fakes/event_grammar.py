"""A grammar of events and of everything that can be wrong with them, from a seed.

A record is an event of a form with some twists applied in turn; a twist draws what it does from the
record's own generator, so that a record depends on nothing but its number, seed and twists.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fakes.input_forms import ABSENT, Event, Form, Record

START_MS = 1_795_255_200_000
STEP_MS = 40
POOL = 40
"""Devices that events come from; so many that state is bounded."""

NUMBERS = (
    b"0", b"-0", b"-0.0", b"1e6", b"-1000000", b"1000000.0000001", b"5e-324", b"1e-400", b"1E+2",
    b"1e308", b"1e309", b"-1e999", b"1" * 400, b"1" * 5000, b"0." + b"1" * 900, b"9007199254740993",
    b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809", b"NaN", b"Infinity",
    b"-Infinity", b"nan", b"01", b"1.", b".5", b"+1", b"0x10", b"1e", b"-", b"1_000", b"1e+-2",
)  # fmt: skip
TEXTS = (
    b'""', b'"5"', b'" "', b'"\\u0000"', b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\\udc00\\ud800"',
    b'"\xc3\xa9"', b'"\xff"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\\x41"', b'"\\u12"',
    b'"a\nb"', b'"a\\nb"', b'"a\x00b"', b'"\x7f"', b'"\xe2\x80\xae"', b'"' + b"x" * 255 + b'"',
    b'"' + b"x" * 256 + b'"', b'"' + b"x" * 257 + b'"', b'"' + "ö".encode() * 256 + b'"',
    b'"' + b"x" * 10_000 + b'"', b'"unterminated',
)  # fmt: skip
SHAPES = (
    b"null", b"true", b"false", b"[]", b"{}", b"[[]]", b'{"a":1}', b"[1,2", b"{", b"}", b"",
    b"[" + b"0," * 3000 + b"0]", b"[" * 255 + b"]" * 255, b"[" * 256 + b"]" * 256, b"[" * 5000,
    b'{"a":' * 300 + b"1" + b"}" * 300, b'{"a":1,"a":2}', b"{,}", b"//", b"undefined",
)  # fmt: skip
TIMES = (
    b'"0001-01-01T00:00:00Z"', b'"0000-12-31T23:59:59Z"', b'"-001-01-01T00:00:00Z"',
    b'"1969-12-31T23:59:59.999Z"', b'"1970-01-01T00:00:00Z"', b'"9999-12-31T23:59:59.999999999Z"',
    b'"9999-12-31T23:59:59-23:59"', b'"0001-01-01T00:00:00+00:01"', b'"10000-01-01T00:00:00Z"',
    b'"2016-12-31T23:59:60Z"', b'"2026-11-21T09:59:60Z"', b'"2017-01-01T00:59:60+01:00"',
    b'"2026-11-21T10:00:00+24:00"', b'"2026-11-21T10:00:00+14:60"', b'"2026-11-21T10:00:00"',
    b'"2026-11-21t10:00:00z"', b'"2026-11-21 10:00:00Z"', b'"2026-11-21T24:00:00Z"',
    b'"2026-11-21T10:00Z"', b'"2026-11-21T10:00:00.Z"', b'"2026-11-21T10:00:00.1234567890Z"',
    b'"2026-11-21T10:00:00,5Z"', b'"2026-02-29T10:00:00Z"', b'"2024-02-29T10:00:00Z"',
    "\"２０２６-11-21T10:00:00Z\"".encode(), b'"20261121T100000Z"', b"0", b"-1", b"-62135596800001",
    b"-62135596800000", b"253402300799999", b"253402300800000", b"1795255200000.5", b"1e300",
    b"-9223372036854775808", b"9223372036854775807", b"9223372036854775808",
)  # fmt: skip
KEYS = (None, b"", b"g0", b"\xff\xfe", b"\x00", b"k" * 10_000)
HEADERS: tuple[tuple[str, bytes | None], ...] = (
    ("ce_specversion", b"1.0"), ("ce_specversion", b"0.3"), ("ce_specversion", None),
    ("ce_subject", b"\xff"), ("ce_id", None), ("ce_time", b""), ("ce_time", b"now"), ("", b""),
    ("code", b"json.invalid"), ("source", b"t[0]@0"), ("headrace-attempt", b"99"),
    ("headrace-first-seen", None), ("headrace-source", b"t[0]@0"), ("more", b"\xff" * 2000),
)  # fmt: skip

Twist = Callable[["Draft", random.Random], None]


@dataclass
class Draft:
    """A record in the making.

    Attributes:
        form: How it is written.
        event: What it says.
        fields: Fields whose JSON text is another.
        record: It, once written; twists of its bytes come after those of its fields.
    """

    form: Form
    event: Event
    fields: dict[str, bytes]
    record: Record | None = None

    def written(self) -> Record:
        """The record, written now where it is not yet."""
        if self.record is None:
            made = self.form.record(self.event, **self.fields)
            self.record = made or self.form.record(self.event)
        assert self.record is not None
        return self.record

    def change(self, change: Callable[[bytes], bytes | None]) -> None:
        """Change the record's value."""
        record = self.written()
        self.record = replace(record, value=change(record.value or b""))


def _retype(draft: Draft, draw: random.Random) -> None:
    field = draw.choice(("id", "entity", "time", "load"))
    draft.fields[field] = draw.choice(draw.choice((NUMBERS, TEXTS, SHAPES, TIMES)))


def _number(draft: Draft, draw: random.Random) -> None:
    draft.fields["load"] = draw.choice(NUMBERS)


def _time(draft: Draft, draw: random.Random) -> None:
    draft.fields["time"] = draw.choice(TIMES)


def _moved(draft: Draft, draw: random.Random) -> None:
    by_ms = draw.choice((-5_001, -5_000, -4_000, -86_400_000, 59_000, 61_000, 10**12, -(10**12)))
    draft.event = replace(draft.event, time_ms=draft.event.time_ms + by_ms)


def _drop(draft: Draft, draw: random.Random) -> None:
    draft.fields[draw.choice(("id", "entity", "time", "load"))] = ABSENT


def _repeat(draft: Draft, draw: random.Random) -> None:
    number = max(0, int(draft.event.id[1:]) - draw.randrange(1, 30))
    draft.event = replace(draft.event, id=f"e{number}")


def _device(draft: Draft, draw: random.Random) -> None:
    draft.event = replace(
        draft.event, entity=draw.choice(("", "d" * 10_000, "\0", "ö", "{0}", "/"))
    )


def _double(draft: Draft, draw: random.Random) -> None:
    name = draw.choice(("id", "device_id", "time", "metrics", "data", "specversion", "load"))
    text = draw.choice(draw.choice((NUMBERS, TEXTS, SHAPES)))
    at_front = draw.random() < 0.5
    more = b'"%s":%s' % (name.encode(), text)
    draft.change(lambda v: b"{" + more + b"," + v[1:] if at_front else v[:-1] + b"," + more + b"}")


def _flip(draft: Draft, draw: random.Random) -> None:
    def flipped(value: bytes) -> bytes:
        found = bytearray(value)
        for _ in range(draw.randrange(1, 9) if found else 0):
            found[draw.randrange(len(found))] ^= 1 << draw.randrange(8)
        return bytes(found)

    draft.change(flipped)


def _cut(draft: Draft, draw: random.Random) -> None:
    def cut(value: bytes) -> bytes:
        start, stop = sorted(draw.randrange(len(value) + 1) for _ in range(2))
        return draw.choice((value[:start], value[start:], value[:start] + value[stop:], value * 2))

    draft.change(cut)


def _insert(draft: Draft, draw: random.Random) -> None:
    what = draw.choice((b"\x00", b"\n", b"\r\n", b"\xef\xbb\xbf", b'"', b"\\", b",", b"}", b"\xff"))

    def inserted(value: bytes) -> bytes:
        place = draw.randrange(len(value) + 1)
        return value[:place] + what + value[place:]

    draft.change(inserted)


def _encode(draft: Draft, draw: random.Random) -> None:
    to = draw.choice(("utf-16", "utf-32", "utf-8-sig", "utf-16-le"))
    draft.change(lambda value: value.decode("latin-1").encode(to))


def _whole(draft: Draft, draw: random.Random) -> None:
    what = draw.choice((None, b"", b" ", b"0", b"[]", b"null", b"{}", *SHAPES))
    draft.change(lambda _: what)


def _large(draft: Draft, draw: random.Random) -> None:
    size = draw.choice((600, 5_000)) if draw.random() < 0.99 else draw.choice((1 << 20, 3 << 20))
    fill = draw.choice((b'"%s"' % (b"[" * size), b"[%s0]" % (b"0," * (size // 2))))
    draft.change(lambda value: value[:-1] + b',"more":' + fill + b"}")


def _key(draft: Draft, draw: random.Random) -> None:
    draft.record = replace(draft.written(), key=draw.choice(KEYS))


def _headers(draft: Draft, draw: random.Random) -> None:
    record = draft.written()
    headers = [*record.headers, draw.choice(HEADERS)]
    draw.shuffle(headers)
    kept = headers[: draw.randrange(len(headers) + 1)] if draw.random() < 0.3 else headers
    draft.record = replace(record, headers=tuple(kept))


FIRST: dict[str, Twist] = {
    "retype": _retype, "number": _number, "time": _time, "moved": _moved, "drop": _drop,
    "repeat": _repeat, "device": _device,
}  # fmt: skip
"""Twists of what an event says."""

THEN: dict[str, Twist] = {
    "double": _double, "flip": _flip, "cut": _cut, "insert": _insert, "encode": _encode,
    "whole": _whole, "large": _large, "key": _key, "headers": _headers,
}  # fmt: skip
"""Twists of the record's bytes."""

TWISTS: tuple[str, ...] = (*FIRST, *THEN)


def record_of(form: Form, number: int, seed: int, twists: Sequence[str]) -> Record:
    """Record `number` of a log."""
    draw = random.Random(seed)
    device = f"g{draw.randrange(POOL)}"
    back_ms = draw.choice((0, 0, 0, 0, 100, 1500))
    load = draw.choice((0.0, -0.0, draw.uniform(-100, 100), draw.uniform(-1e6, 1e6)))
    event = Event(f"e{number}", device, START_MS + number * STEP_MS - back_ms, load)
    draft = Draft(form, event, {})
    for name in twists:
        if name in FIRST:
            FIRST[name](draft, draw)
    for name in twists:
        if name in THEN:
            THEN[name](draft, draw)
    return draft.written()


def log_times(count: int, seed: int, *, set_by_producers: bool) -> list[int]:
    """Broker times of a log: its own clock's, or whatever producers wrote."""
    draw = random.Random(seed)
    times = [START_MS + 2_000 + number * STEP_MS for number in range(count)]
    if set_by_producers:
        odd = (0, -1, 2**63 - 1, -(2**63), START_MS - 10_000, START_MS + 10**11)
        times = [draw.choice(odd) if draw.random() < 0.05 else time for time in times]
    return times
