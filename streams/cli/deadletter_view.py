"""Dead letters as text: a table by reason, one letter whole, what became of a redrive."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from headrace.schemas.pipeline import Pipeline
from headrace.schemas.topics import topics_of
from headrace.streams.client.deadletters import DeadLetter
from headrace.streams.client.redrive import Left, Outcome


@dataclass(slots=True)
class Reason:
    """Dead letters of one code.

    Attributes:
        count: How many.
        redriven: How many of them were redriven.
        first_ms: When the first died, by the broker's time, milliseconds since 1970.
        last_ms: When the last did.
        example: Coordinates of the last.
    """

    count: int
    redriven: int
    first_ms: int
    last_ms: int
    example: str


class Tally:
    """Counts by reason of any number of dead letters, and the newest ones; no content.

    Args:
        limit: How many of the newest to keep.
        redriven: Coordinates of those that were redriven, and where each went.
    """

    def __init__(self, limit: int, redriven: Mapping[str, str | None]) -> None:
        self._limit, self._redriven = limit, redriven
        self.reasons: dict[str, Reason] = {}
        self._newest: list[tuple[int, int, dict[str, Any]]] = []
        self._rows = 0

    def add(self, batch: Iterable[DeadLetter]) -> None:
        """Count a batch."""
        for letter in batch:
            self._rows += 1
            again = letter.at in self._redriven
            reason = self.reasons.setdefault(
                letter.code, Reason(0, 0, letter.at_ms, letter.at_ms, letter.at)
            )
            reason.count += 1
            reason.redriven += again
            reason.first_ms = min(reason.first_ms, letter.at_ms)
            if letter.at_ms >= reason.last_ms:
                reason.last_ms, reason.example = letter.at_ms, letter.at
            row = (letter.at_ms, self._rows, _row(letter, again, self._redriven.get(letter.at)))
            keep = heapq.heappush if len(self._newest) < self._limit else heapq.heappushpop
            keep(self._newest, row)

    def rows(self, now_s: float) -> list[dict[str, Any]]:
        """Facts of the newest letters, oldest first."""
        return [
            {**facts, "age_s": round(max(0.0, now_s - at_ms / 1000), 1)}
            for at_ms, _, facts in sorted(self._newest, key=lambda row: row[:2])
        ]

    def facts(self, now_s: float) -> dict[str, Any]:
        """All of it as one JSON object."""
        return {
            "count": self._rows,
            "reasons": [
                {
                    "code": code,
                    "count": reason.count,
                    "redriven": reason.redriven,
                    "first": clock(reason.first_ms),
                    "last": clock(reason.last_ms),
                    "example": reason.example,
                }
                for code, reason in self._ranked()
            ],
            "letters": self.rows(now_s),
        }

    def _ranked(self) -> list[tuple[str, Reason]]:
        return sorted(self.reasons.items(), key=lambda item: (-item[1].count, item[0]))


def _row(letter: DeadLetter, again: bool, to: str | None) -> dict[str, Any]:
    """What may be said of one letter without its content."""
    return {
        "at": letter.at,
        "code": letter.code,
        "stage": letter.stage,
        "attempt": letter.attempt,
        "source": letter.source,
        "redriven": again,
        "redriven_to": to,
    }


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


def outcome_lines(outcome: Outcome, pipeline: Pipeline, *, dry: bool) -> Iterator[str]:
    """What was redriven, and one line for each reason why others were left."""
    topics, attempts = topics_of(pipeline), pipeline.delivery.redrive_attempts
    done = "would be redriven" if dry else "redriven"
    yield f"{outcome.redriven} dead letters {done} to {topics.telemetry.name}"
    if outcome.aged:
        yield (
            f"{outcome.aged} of them are older than the allowed lateness of "
            f"{pipeline.input.allowed_lateness_s:g} s: where newer events of the partition went "
            f"before, they end in {topics.late.name}"
        )
    why: dict[Left, str] = {
        "redriven": "were redriven before",
        "attempts": f"were tried {attempts} times; mend them at their source, or raise "
        f"delivery.redrive_attempts",
        "serve": "are SERVE's, which would drop them as served; mend the model and have the "
        "events sent again under new ids",
        "cut": "were over 1 MiB and are kept in part only; have them sent again",
        "tombstone": "had no value, so they can never be events",
        "elsewhere": "came from a topic or partition that the pipeline does not read",
    }
    for reason, count in outcome.left.items():
        yield f"{count} left, they {why[reason]} (such as {outcome.examples[reason]})"


def clock(time_ms: float) -> str:
    """RFC 3339 text of a time.

    Example:
        >>> clock(1_795_255_200_123)
        '2026-11-21T10:00:00.123Z'
    """
    text = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


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
