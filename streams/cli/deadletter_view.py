"""Dead letters as text: a table by reason, one letter whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from headrace.streams.client.deadletter_tally import Tally, clock
from headrace.streams.client.deadletters import DeadLetter


def tally_lines(tally: Tally, now_s: float) -> Iterator[str]:
    """The table by reason, then one line for each of the newest."""
    facts = tally.facts(now_s)
    if not facts["count"]:
        yield "no dead letters"
        return
    head = ["reason", "count", "redriven", "first", "last", "example"]
    yield from _columns([head, *([str(v) for v in row.values()] for row in facts["reasons"])])
    yield ""
    shown = [
        [
            row["at"],
            row["code"],
            row["stage"],
            f"attempt {row['attempt']}",
            row["source"],
            age(row["age_s"]),
            _went(row),
        ]
        for row in facts["letters"]
    ]
    yield from _columns(shown)


def _went(row: Mapping[str, Any]) -> str:
    if not row["redriven"]:
        return ""
    return f"redriven to {row['redriven_to']}" if row["redriven_to"] else "redriven"


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def letter_lines(letter: DeadLetter, now_s: float) -> Iterator[str]:
    """One dead letter whole; bytes that a terminal would act on are escaped."""
    cut = f" of {letter.original_bytes}" if letter.original_bytes is not None else ""
    facts = {
        "at": letter.at,
        "died": f"{clock(letter.at_ms)}, {age(now_s - letter.at_ms / 1000)} ago",
        "code": letter.code,
        "source": letter.source,
        "stage": letter.stage,
        "attempt": str(letter.attempt),
        "pipeline": letter.pipeline,
        "first seen": clock(letter.first_seen_ms),
        "model": letter.model,
        "redriven to": letter.redriven_to,
        "key": None if letter.key is None else escaped(letter.key),
    }
    for name, text in facts.items():
        if text is not None:
            yield f"{name:<12}{text}"
    for name, value in letter.headers:
        yield f"{'header':<12}{escaped(name.encode())}: {escaped(value or b'')}"
    yield f"{'value':<12}{'none' if letter.tombstone else f'{len(letter.value)}{cut} bytes'}"
    yield escaped(letter.value)


def age(seconds: float) -> str:
    """A duration in its two largest units.

    Example:
        >>> age(7380), age(59.7), age(200_000)
        ('2h 3m', '59s', '2d 7h')
    """
    left, parts = max(0, int(seconds)), []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"


def escaped(data: bytes) -> str:
    r"""Bytes as text on one line; what is not printable, and a backslash, is escaped.

    Example:
        >>> print(escaped("°C \x1b[2J".encode() + b"\xff\\\n"))
        °C \x1b[2J\xff\\\n
    """
    return "".join(
        char
        if char.isprintable() and char != "\\" and not 0xDC80 <= ord(char) <= 0xDCFF
        else _code(char)
        for char in data.decode("utf-8", "surrogateescape")
    )


def _code(char: str) -> str:
    point = ord(char)
    if 0xDC80 <= point <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{point - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()
