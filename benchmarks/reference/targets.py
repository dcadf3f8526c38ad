"""The budgets that Headrace set itself, and what a report says of each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

TIMES_FASTER = {
    "handwritten": 3.0,
    "bytewax": 6.0,
    "quix": 60.0,
    "faust_take": 70.0,
    "faust": 150.0,
}
"""Throughput of Headrace over that of each side as one process."""
LATENCY_SIDE = "headrace on kafka"
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
    """The budget beside one side; None where there is none, or Headrace did not run."""
    if name not in TIMES_FASTER or "headrace" not in sides:
        return None
    found = sides["headrace"]["events_per_s"] / sides[name]["events_per_s"]
    return Verdict(f"times the throughput of {name}", TIMES_FASTER[name], found, at_least=True)


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


def start_verdict(bus: str, seconds: float) -> Verdict:
    """The budget of the first prediction after process start."""
    return Verdict(f"first prediction, {bus}, s", START_S, seconds)


def memory_verdict(process: str, mb: float | None) -> Verdict | None:
    """The budget of a worker at full load; None for a process that is no worker."""
    if mb is None or process not in WORKERS:
        return None
    return Verdict(f"{process} at full load, MB", WORKER_MB, mb)
