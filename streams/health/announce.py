"""One line when a trouble begins and one when it is over, however often it comes and goes."""

from __future__ import annotations

from headrace.streams.health.verdict import TROUBLE, Kind, Verdict

QUIET_S = 10.0
"""No second line of a worker within this time: what changes faster is told as of then."""


class Announcer:
    """Turns verdicts into lines of the log, at most one per `QUIET_S`.

    Args:
        name: The worker's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._told: Kind | None = None
        self._at_s = float("-inf")

    def line(self, now_s: float, verdict: Verdict) -> str | None:
        """What to log now: None where nothing has changed, or too soon after the last line.

        Args:
            now_s: Monotonic seconds.
            verdict: How the worker is.

        Delivery: pure.
        """
        if verdict.kind is Kind.STARTING:
            return None
        trouble = verdict.kind if verdict.kind in TROUBLE else None
        if trouble is self._told or now_s - self._at_s < QUIET_S:
            return None
        over, self._told, self._at_s = self._told, trouble, now_s
        return verdict.line or f"{self._name} is {verdict.kind} again, it was {over}"
