"""How long a run will take, said before it begins: seconds of its pieces on two quiet cores."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

from sides import SIDES

RUN_S = 14.5
"""One run of a side: its start and group 4, its work 8, settling and stopping 2.5."""
READ_PER_S = 120_000
"""Predictions that are read and compared."""
MADE_PER_S = 120_000
"""Events of a log that are made and sent."""
WARM_UP_S = 35.0
RATE_S = 3.5
"""Beside what is counted at a rate."""
LATENCY_SIDE_S = 9.0
START_S = 6.0
STAGE_S = 16.0
"""Both stages once, their log of 600,000 events."""
SERVICES_S = 12.0


def minutes(
    parts: Container[str],
    sides: Sequence[str],
    *,
    most: int,
    rounds: int,
    rates: int,
    seconds: float,
    latency_sides: int,
    latency_rounds: int,
    starts: int,
) -> dict[str, float]:
    """Minutes of each of the parts, less the scaling's.

    Example:
        >>> pieces = dict(most=1 << 40, rounds=3, rates=4, seconds=6.0, latency_sides=4,
        ...               latency_rounds=2, starts=5)
        >>> sum(minutes(["sides", "latency", "startup", "memory", "stages"], list(SIDES),
        ...             **pieces).values()) < 27
        True
    """
    logs = {name: min(most, SIDES[name].events) for name in sides}
    one = {name: RUN_S + logs[name] / READ_PER_S for name in sides}
    found = {
        "sides": WARM_UP_S + sum(set(logs.values())) / MADE_PER_S + rounds * sum(one.values()),
        "latency": latency_rounds * latency_sides * (rates * (seconds + RATE_S) + LATENCY_SIDE_S),
        "startup": 2 * starts * START_S,
        "memory": 15.0,
        "stages": rounds * STAGE_S + 8.0,
    }
    return {part: round((SERVICES_S + s) / 60, 1) for part, s in found.items() if part in parts}


def said(found: dict[str, Any]) -> str:
    """The line that says so.

    >>> said({"sides": 12.5, "memory": 0.5})
    'about 13 minutes: sides 12.5, memory 0.5'
    """
    each = ", ".join(f"{part} {minutes:g}" for part, minutes in found.items())
    return f"about {sum(found.values()):.0f} minutes: {each}"
