"""When the rows of a file are to be sent, and at which time."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from headrace.streams.producers.file_facts import Row


class Due(NamedTuple):
    """When a row is to be sent.

    Attributes:
        at_s: On the clock that the pace was given, seconds.
        time_ms: The time its event gets, milliseconds since 1970; None leaves it as it is.
    """

    at_s: float
    time_ms: float | None


class Pace:
    """The schedule of a replay: by the events' own times, by a rate, or at once.

    Rows are sent in the file's order: one that is older than the row before it is due with it.

    Args:
        speed: How many times as fast as it happened; None is at once.
        rate_per_s: Rows per second; None does not count them.
        shift: Give the events new times. With a speed, each gets the time at which it is due, so
            that a stretch played ten times as fast is a tenth as long; without one, the file's
            newest event gets the present and the others keep their distances.
        newest_ms: Of the file, milliseconds since 1970; needed to shift without a speed.
        now: Wall clock, seconds since 1970.
    """

    def __init__(
        self,
        *,
        speed: float | None,
        rate_per_s: float | None,
        shift: bool,
        newest_ms: float = 0.0,
        now: Callable[[], float],
    ) -> None:
        self._speed, self._rate_per_s, self._shift = speed, rate_per_s, shift
        self._now = now
        self._start_s: float | None = None
        self._first_ms = 0.0
        self._by_ms = now() * 1000 - newest_ms
        self._rows = 0
        self._latest_s = float("-inf")

    def due(self, row: Row) -> Due:
        """When the next row is to be sent."""
        if self._start_s is None:
            self._start_s = self._latest_s = self._now()
        if self._rate_per_s is not None:
            self._latest_s = self._start_s + self._rows / self._rate_per_s
        self._rows += 1
        if row.at_ms is None:
            return Due(self._latest_s, None)
        if self._speed is None:
            return Due(self._latest_s, row.at_ms + self._by_ms if self._shift else None)
        if not self._first_ms:
            self._first_ms = row.at_ms
        at_s = self._start_s + (row.at_ms - self._first_ms) / 1000 / self._speed
        self._latest_s = max(self._latest_s, at_s)
        return Due(self._latest_s, at_s * 1000 if self._shift else None)
