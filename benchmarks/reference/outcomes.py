"""What of a report failed: it is shown, and no figure stands for it."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

TWO = "_x2"
"""Ends the name of a side that runs as two processes."""


def ran(sides: dict[str, Any]) -> dict[str, Any]:
    """Those of the sides that have figures.

    >>> ran({"quix": {"events_per_s": 10}, "faust": {"failed": ["round 1: it ended"]}})
    {'quix': {'events_per_s': 10}}
    """
    return {name: side for name, side in sides.items() if "events_per_s" in side}


def failures(report: dict[str, Any], parts: Container[str] | None = None) -> list[str]:
    r"""A line for each part and each run of a side that failed; of its reason the first line.

    Args:
        report: What a run found, and those before it.
        parts: Parts to look at; None: all.

    Example:
        >>> report = {"sides": {"faust": {"failed": ["round 1: it ended\nits log"]}},
        ...           "failed": {"memory": "no bus"}}
        >>> failures(report), failures(report, ["memory"])
        (['memory: no bus', 'faust, round 1: it ended'], ['memory: no bus'])
    """
    found = [
        f"{part}: {why}"
        for part, why in report.get("failed", {}).items()
        if parts is None or part in parts
    ]
    for name, side in report.get("sides", {}).items():
        if parts is None or "sides" in parts:
            found += [f"{name}, {why}" for why in side.get("failed", [])]
    return [line.partition("\n")[0] for line in found]
