"""The part of a report that others may rely on: its keys stay."""

from __future__ import annotations

from typing import Any

SIDES = ("headrace", "handwritten", "bytewax", "quix", "faust_take", "faust")
FIGURES = ("events_per_s", "us_cpu_per_event")
PARTS = ("latency", "startup", "memory", "versions")


def promised(report: dict[str, Any]) -> dict[str, Any]:
    """These keys and no others; what was not measured, or failed, is null.

    Example:
        >>> side = {"events_per_s": 9, "us_cpu_per_event": 1, "title": "Headrace"}
        >>> found = promised({"sides": {"headrace": side}})
        >>> found["sides"]["headrace"], found["sides"]["faust"]["events_per_s"], found["memory"]
        ({'events_per_s': 9, 'us_cpu_per_event': 1}, None, None)
    """
    sides = report.get("sides", {})
    found: dict[str, Any] = {
        "sides": {
            name: {figure: sides.get(name, {}).get(figure) for figure in FIGURES} for name in SIDES
        }
    }
    return found | {part: report.get(part) for part in PARTS}
