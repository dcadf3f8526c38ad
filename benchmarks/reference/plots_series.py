"""What the figures of ``docs/benchmarks.md`` show, taken from the report; nothing is drawn here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from outcomes import ran

PERCENTILES = {"p50_ms": "p50", "p99_ms": "p99", "p99_9_ms": "p99.9"}
DIMENSIONS = {
    "workers": "workers per stage",
    "partitions": "partitions",
    "devices": "devices",
    "metrics": "metrics per event",
    "event_bytes": "bytes per event",
    "model_cost": "model, × flops",
}
FIGURES = {
    "events_per_s": "events/s",
    "us_cpu_per_event": "µs CPU per event",
    "rss_mb": "memory, MB",
}


@dataclass(frozen=True)
class Series:
    """One line or one mark of a figure.

    Attributes:
        name: What it is.
        x: Its places, ascending.
        y: Its values, as many.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


def throughput_series(sides: dict[str, Any]) -> list[tuple[str, str, float]]:
    """Key, label and events/s of every side that has figures, the fastest first.

    >>> side = {"title": "Faust, `take(1000)`", "processes": 2, "events_per_s": 10}
    >>> throughput_series({"faust": side})
    [('faust', 'Faust, take(1000), 2 processes', 10)]
    """
    ordered = sorted(ran(sides).items(), key=lambda item: -item[1]["events_per_s"])
    return [
        (key, f"{side['title'].replace('`', '')}, {_processes(side)}", side["events_per_s"])
        for key, side in ordered
    ]


def _processes(side: dict[str, Any]) -> str:
    return "1 process" if side["processes"] == 1 else f"{side['processes']} processes"


def latency_series(latency: dict[str, Any]) -> dict[str, list[Series]]:
    """Of every percentile a line for each side, milliseconds over events/s.

    A rate at which nothing came has no place on the line.
    """
    panels: dict[str, list[Series]] = {}
    for key, percentile in PERCENTILES.items():
        panels[percentile] = []
        for side, rates in latency.items():
            points = sorted(
                (float(r), found[key]) for r, found in rates.items() if found.get(key) is not None
            )
            if points:
                x, y = zip(*points, strict=True)
                panels[percentile].append(Series(side, x, y))
    return panels


def scaling_series(scaling: dict[str, Any]) -> dict[tuple[str, str], Series]:
    """Of every figure and dimension its curve; the order is that of rows and columns."""
    return {
        (figure, dimension): Series(
            DIMENSIONS[dimension],
            tuple(float(point["value"]) for point in scaling[dimension]),
            tuple(float(point[figure]) for point in scaling[dimension]),
        )
        for figure in FIGURES
        for dimension in DIMENSIONS
        if dimension in scaling
    }


def short(value: float) -> str:
    """A number as an axis says it.

    >>> [short(v) for v in (1, 0.5, 64, 1000, 16_000, 2_500, 1_000_000)]
    ['1', '0.5', '64', '1k', '16k', '2.5k', '1M']
    """
    for unit, suffix in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{suffix}"
    return f"{value:g}"
