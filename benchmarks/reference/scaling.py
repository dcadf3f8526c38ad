"""How Headrace's throughput, CPU and memory grow, along one dimension of the job at a time.

Every point is the reference job but for one value, run once on a log of its own; the reference
point itself is run once for all dimensions. Partitions are taken over one after the other, so
rates are from the moment the last one has begun, and that moment is a figure of its own. A sample
of each point's scores is held against plain numpy.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from job import REFERENCE, Shape, events
from scaling_check import Sample
from telemetry_log import create, delete, send
from throughput import run_side

EVENTS = 300_000
QUICK = 5
"""A quick run reads a log so many times shorter."""

POINTS: dict[str, dict[int, int]] = {
    "workers": dict.fromkeys((1, 2), EVENTS),
    "partitions": dict.fromkeys((1, 2, 4, 8), EVENTS) | {16: 400_000, 32: 600_000, 64: 900_000},
    "devices": dict.fromkeys((100, 1_000, 10_000, 100_000), EVENTS) | {1_000_000: 1_200_000},
    "metrics": {1: EVENTS, 4: EVENTS, 16: 150_000, 64: 50_000},
    "event_bytes": {200: EVENTS, 1_000: 200_000, 4_000: 100_000, 16_000: 30_000},
    "model_cost": dict.fromkeys((1, 10, 100), EVENTS),
}
"""Value of each dimension, a field of `Shape`, to the events of its log: fewer where one costs
more, more where fewer would not reach every device or would be gone before the last partition has
begun. A point takes about ten seconds, the longest half a minute."""

FIGURES = ("events_per_s", "us_cpu_per_event", "rss_mb")


async def scaling(
    bus: str, store: str, dimensions: Sequence[str], *, quick: bool
) -> dict[str, list[dict[str, Any]]]:
    """Run every point of these dimensions.

    Args:
        bus: host:port of a Kafka.
        store: URL.
        dimensions: Of `POINTS`.
        quick: Logs are a fifth as long; with so few events start-up shows in the figures.

    Returns:
        Of each dimension its points in ascending order: value, events per second, µs of CPU per
        event, MiB resident of all of Headrace's processes, seconds until every partition had a
        prediction, whether the rates are from then on (else too few events were left, and they are
        of the whole run), events of the log, and the largest difference of a score from plain
        numpy.
    """
    shorter = QUICK if quick else 1
    found: dict[Shape, dict[str, Any]] = {}
    # Not counted: a broker compiles its code while it runs.
    await point(bus, store, run_of("warm", 0), REFERENCE, EVENTS // QUICK)
    for dimension in dimensions:
        for value, count in POINTS[dimension].items():
            shape = shape_at(dimension, value)
            if shape not in found:
                run = run_of(dimension, value)
                found[shape] = await point(bus, store, run, shape, count // shorter)
            print(f"{dimension} {value}: {found[shape]}", flush=True)
    return {
        dimension: [
            {"value": value} | found[shape_at(dimension, value)] for value in POINTS[dimension]
        ]
        for dimension in dimensions
    }


def shape_at(dimension: str, value: int) -> Shape:
    """The reference job with one other value."""
    return replace(REFERENCE, **{dimension: value})


def run_of(dimension: str, value: int) -> str:
    """Name of a run, for its pipeline and topics."""
    return f"scale-{os.getpid()}-{dimension.replace('_', '-')}-{value}"


async def point(bus: str, store: str, run: str, shape: Shape, count: int) -> dict[str, Any]:
    """One run of one shape."""
    telemetry, sample = f"{run}.telemetry", Sample(shape)
    await create(bus, telemetry, partitions=shape.partitions)
    await send(bus, telemetry, sample.watch(events(count, shape=shape)), shape.partitions)
    result, wrote = await run_side(bus, store, telemetry, "headrace", run, count, shape)
    await delete(bus, telemetry)
    worst = sample.check(wrote.scores)
    return (
        {name: result[name] for name in FIGURES}
        | (result["steady"] or {})
        | {
            "every_partition_s": result["every_partition_s"],
            "steady": result["steady"] is not None,
            "events": count,
            "worst_score": worst,
        }
    )
