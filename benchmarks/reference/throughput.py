"""How many events per second each side gets through, and for how much CPU.

Every side reads a log that is already there, on the same bus and store, one after the other, in an
order that is drawn anew for each round, on a broker that is warm. How a side is timed is told in
`watching`, how long its log is in `sides`. Its CPU is that of its own processes in that time; that
of the bus and the store, where they were started here, is a figure of its own.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from agreement import compare
from job import REFERENCE, Shape
from scaling_check import Sample
from sides import SIDES, Where
from telemetry_log import create, delete, fill, read_predictions
from watching import Result, watch
from written import Predictions

WARM_EVENTS = 200_000
WARMING = ("handwritten", "headrace")
CHECKED_DEVICES = 200
"""So many devices' scores are held against plain numpy, on every side and in every round."""
SETTLE_S = 1.0
"""Pause before each side, after what is still to be written to disk."""
FIGURES = ("events_per_s", "us_cpu_per_event", "rss_mb", "window_s")


@dataclass
class Runs:
    """What the runs of one side gave.

    Attributes:
        count: Events of the log it read.
        results: Figures of the runs that are a result.
        failed: Why each of the others is none.
    """

    count: int
    results: list[Result] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


async def throughput(
    bus: str,
    store: str,
    names: Sequence[str],
    *,
    rounds: int,
    most: int,
    seed: int,
    told: Callable[[float], None],
) -> dict[str, Any]:
    """Run every side `rounds` times; its medians, and why a run of it failed.

    Args:
        bus: host:port.
        store: URL.
        names: Sides.
        rounds: Runs of each.
        most: Events of the longest log; each side's is as long as the side says, but no longer.
        seed: Of the order of the sides in each round.
        told: Called before each run with the share of them that is done.
    """
    runs = {name: Runs(min(most, SIDES[name].events)) for name in names}
    lengths = sorted({side.count for side in runs.values()})
    telemetry = {n: f"bench-telemetry-{os.getpid()}-{n}" for n in lengths}
    sample = Sample(REFERENCE, CHECKED_DEVICES)
    for n, topic in telemetry.items():
        size = await fill(bus, topic, n, repeats=True, sample=sample if n == lengths[-1] else None)
        print(f"log: {n} events of {size:.0f} bytes")
    await warm(bus, store, min(most, WARM_EVENTS))
    wrote: dict[str, Predictions] = {}
    turns = [(number, name) for number in range(rounds) for name in in_turn(names, number, seed)]
    for done, (number, name) in enumerate(turns):
        told(done / len(turns))
        n, run = runs[name].count, run_of(name, number)
        try:
            result, found = await run_side(bus, store, telemetry[n], name, run, n)
            sample.check(found.scores)
            compare(wrote | {name: found})
        except (SystemExit, CalledProcessError) as error:
            # It is shown as failed; the other sides' figures stand without it.
            runs[name].failed.append(f"round {number + 1}: {error}")
            print(f"{name} failed in round {number + 1}: {error}", flush=True)
            continue
        wrote[name] = found
        runs[name].results.append(result)
        print(f"round {number + 1} {name}: {result}", flush=True)
    await delete(bus, *telemetry.values())
    print(f"predictions agree: {len(wrote)} of {len(names)} sides, {lengths[-1]} events")
    return {name: summary(name, side) for name, side in runs.items()}


def in_turn(names: Sequence[str], number: int, seed: int) -> list[str]:
    """The sides in an order that the seed and the round's number decide.

    >>> sorted(in_turn(["headrace", "quix", "faust"], 1, 7))
    ['faust', 'headrace', 'quix']
    """
    return random.Random(f"{seed} {number}").sample(names, len(names))


async def warm(bus: str, store: str, count: int) -> None:
    """Run two sides without counting them: a broker compiles its code while it runs."""
    telemetry = f"bench-telemetry-{os.getpid()}-warm"
    await fill(bus, telemetry, count)
    for name in WARMING:
        try:
            await run_side(bus, store, telemetry, name, run_of(name, "warm"), count)
        except SystemExit as error:
            print(f"{name} failed when it was not counted: {error}", flush=True)
    await delete(bus, telemetry)


def run_of(name: str, number: object) -> str:
    """Name of a run, for groups, topics and a pipeline: no underscore, as a dot would be like it.

    >>> run_of("bytewax_x2", 0).split("-")[:2]
    ['bytewax', 'x2']
    """
    return f"{name.replace('_', '-')}-{os.getpid()}-{number}"


async def run_side(
    bus: str,
    store: str,
    telemetry: str,
    name: str,
    run: str,
    count: int,
    shape: Shape = REFERENCE,
) -> tuple[Result, Predictions]:
    """One side, once: its figures and its predictions."""
    side = SIDES[name]
    if not side.makes_topics:
        await create(bus, *side.topics(run))
    await asyncio.to_thread(os.sync)
    await asyncio.sleep(SETTLE_S)
    with tempfile.TemporaryDirectory() as folder:
        running = side.start(Where(bus, store, telemetry, run, Path(folder), shape))
        try:
            result = await watch(bus, running, count)
        except SystemExit as error:
            raise SystemExit(f"{name}: {error}\n{log_of(Path(folder))}") from None
        finally:
            running.stop()
    wrote = await read_predictions(
        bus, running.output, count, shape.partitions, named=side.names_partition
    )
    await delete(bus, *side.topics(run))
    return result, wrote


def log_of(folder: Path) -> str:
    """The last lines a side wrote."""
    return "\n".join(f.read_text("utf-8", "replace")[-2000:] for f in folder.glob("log-*.txt"))


def summary(name: str, runs: Runs) -> dict[str, Any]:
    """Medians of a side's runs, the most memory of each process, and the spread.

    A side of which no run is a result has no figures, only the reasons.
    """
    side = SIDES[name]
    found = {
        "title": side.title,
        "processes": side.processes,
        "commits": side.commits,
        "stores": side.stores,
        "events": runs.count,
        "failed": runs.failed,
    }
    return found | _figures(runs.results) if runs.results else found


def _figures(runs: Sequence[Result]) -> dict[str, Any]:
    most: dict[str, float] = {}
    for run in runs:
        for process, rss_mb in run["processes_mb"].items():
            most[process] = max(rss_mb, most.get(process, 0.0))
    services = [us for run in runs if (us := run["us_cpu_of_services"]) is not None]
    return {key: statistics.median(run[key] for run in runs) for key in FIGURES} | {
        "us_cpu_of_services": statistics.median(services) if services else None,
        "processes_mb": most,
        "rounds": [run["events_per_s"] for run in runs],
    }
