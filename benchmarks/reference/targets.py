"""The budgets that Headrace set itself, and what a report says of each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from outcomes import TWO, ran

TIMES_FASTER = {
    "handwritten": 3.0,
    "bytewax": 6.0,
    "quix": 60.0,
    "faust_take": 70.0,
    "faust": 150.0,
}
"""Throughput of Headrace over that of each side, as one process and as two."""
SAME_BUDGET = {"quix_sink": "quix", "confluent": "handwritten"}
"""A second way to write a side is held to the first one's budget."""
ONCE_SHARE = 80.0
"""Throughput of exactly-once, percent of the default's."""
ONCE_RATE = 5_000
ONCE_MS = 50.0
"""Most that exactly-once may add to the p99 at `ONCE_RATE`."""
LATENCY_SIDE = "headrace on kafka"
LATENCY_ONCE = "headrace_once on kafka"
LATENCY_RATE = 20_000
LATENCY_MS = {"p50": 15.0, "p99": 50.0, "p99.9": 100.0}
START_S = 3.0
WORKER_MB = 400.0
WORKERS = ("enrich", "serve")


@dataclass(frozen=True)
class Verdict:
    """One budget and what was found.

    Attributes:
        what: Quantity, with its unit.
        target: The budget.
        found: Measured.
        at_least: Whether more is better.
    """

    what: str
    target: float
    found: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the budget is kept."""
        return self.found >= self.target if self.at_least else self.found <= self.target

    def said(self) -> str:
        """The target and the verdict, as a table prints them.

        >>> Verdict("p50, ms", 15, 20).said(), Verdict("times", 3, 3.0, at_least=True).said()
        ('≤ 15: missed', '≥ 3: met')
        """
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.target:g}: {'met' if self.met else 'missed'}"


def ratio_verdict(sides: dict[str, Any], name: str) -> Verdict | None:
    """The budget beside one side; None where there is none, or no pair of equally many rounds."""
    one = name.removesuffix(TWO)
    budget = TIMES_FASTER.get(SAME_BUDGET.get(one, one))
    if budget is None or not {name, "headrace"} <= ran(sides).keys():
        return None
    if len(sides[name]["rounds"]) < len(sides["headrace"]["rounds"]):
        return None
    found = sides["headrace"]["events_per_s"] / sides[name]["events_per_s"]
    what = f"times the throughput of {one}{' as two processes' if name != one else ''}"
    return Verdict(what, budget, found, at_least=True)


def ratio_said(sides: dict[str, Any], name: str) -> str:
    """Headrace's throughput over a side's, by the medians and by the rounds furthest apart.

    Where the slowest round of one is no faster than the fastest of the other, it says so.

    Example:
        >>> sides = {"headrace": {"events_per_s": 300.0, "rounds": [250, 350]}}
        >>> sides["bytewax"] = {"events_per_s": 100.0, "rounds": [100, 125]}
        >>> ratio_said(sides, "bytewax")
        '3.0 (2.0 to 3.5)'
        >>> sides["bytewax"] = {"events_per_s": 240.0, "rounds": [230, 260]}
        >>> ratio_said(sides, "bytewax")
        '1.2 (1.0 to 1.5), **ranges overlap**'
    """
    ours, theirs = sides["headrace"], sides[name]
    found = ours["events_per_s"] / theirs["events_per_s"]
    least = min(ours["rounds"]) / max(theirs["rounds"])
    most = max(ours["rounds"]) / min(theirs["rounds"])
    overlap = ", **ranges overlap**" if least <= 1.0 <= most else ""
    return f"{found:.1f} ({least:.1f} to {most:.1f}){overlap}"


def latency_verdicts(latency: dict[str, Any]) -> dict[str, Verdict]:
    """The budgets of the percentiles, where Headrace ran at that rate on Kafka.

    One event that did not come misses them all.
    """
    found = latency.get(LATENCY_SIDE, {}).get(str(LATENCY_RATE), {})
    missing = math.inf if found.get("missing") else None
    values = {name: missing or found.get(f"{name.replace('.', '_')}_ms") for name in LATENCY_MS}
    return {
        name: Verdict(f"{name} at {LATENCY_RATE:,} events/s, ms", LATENCY_MS[name], value)
        for name, value in values.items()
        if value is not None
    }


def once_verdicts(sides: dict[str, Any], latency: dict[str, Any]) -> list[Verdict]:
    """The budgets of exactly-once beside the default, as far as both ran."""
    rates = [sides.get(name, {}).get("events_per_s") for name in ("headrace", "headrace_once")]
    p99_ms = [
        latency.get(name, {}).get(str(ONCE_RATE), {}).get("p99_ms")
        for name in (LATENCY_SIDE, LATENCY_ONCE)
    ]
    found = []
    if None not in rates:
        share = 100 * rates[1] / rates[0]
        what = "exactly-once, % of the default's throughput"
        found.append(Verdict(what, ONCE_SHARE, share, at_least=True))
    if None not in p99_ms:
        what = f"exactly-once adds to p99 at {ONCE_RATE:,} events/s, ms"
        found.append(Verdict(what, ONCE_MS, p99_ms[1] - p99_ms[0]))
    return found


def start_verdict(bus: str, seconds: float) -> Verdict:
    """The budget of the first prediction after process start."""
    return Verdict(f"first prediction, {bus}, s", START_S, seconds)


def memory_verdict(process: str, mb: float | None) -> Verdict | None:
    """The budget of a worker at full load; None for a process that is no worker."""
    if mb is None or process not in WORKERS:
        return None
    return Verdict(f"{process} at full load, MB", WORKER_MB, mb)
