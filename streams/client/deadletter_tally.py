"""Dead letters counted by reason, and the newest of them by name; no content."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from headrace.streams.client.deadletters import DeadLetter


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


def clock(time_ms: float) -> str:
    """RFC 3339 text of a time.

    Example:
        >>> clock(1_795_255_200_123)
        '2026-11-21T10:00:00.123Z'
    """
    text = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
