"""How many events per second each side gets through, and for how much CPU.

Every side reads a log that is already there, on the same bus and store, one after the other, in
rounds of changing order, on a broker that is warm. A side's time runs from the first record in any
topic it writes to its last prediction: neither its start nor the group's join counts, and its first
batch is given to it. Its CPU is that of its own processes in that span.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from job import REFERENCE, Shape
from processes import command_line, usage
from sides import SIDES, Running, Where
from telemetry_log import create, delete, fill, read_sample, read_scores, wait_for

PATIENCE_S = 180.0
LOOK_S = 0.02
WEIGH_S = 0.5
WARM_EVENTS = 200_000
WARMING = ("handwritten", "headrace")
WORST_SCORE = 1e-5
"""Largest difference between two sides' scores: float32 and the order of a sum."""

STEADY_SHARE = 0.3
"""Of the events must be left when every partition has begun, to speak of a steady rate."""

Result = dict[str, Any]


@dataclass(frozen=True)
class Moment:
    """How far a side was.

    Attributes:
        done: Predictions.
        at_s: Monotonic clock, seconds.
        cpu_s: CPU time it had used, seconds.
    """

    done: int
    at_s: float
    cpu_s: float


async def throughput(
    bus: str, store: str, names: Sequence[str], *, rounds: int, count: int
) -> dict[str, Any]:
    """Run every side `rounds` times; its medians, and what the scores said.

    Args:
        bus: host:port.
        store: URL.
        names: Sides.
        rounds: Runs of each.
        count: Events of the log; a side may read no more than its front.
    """
    counts = {name: min(count, SIDES[name].most) for name in names}
    telemetry = {n: f"bench-telemetry-{os.getpid()}-{n}" for n in sorted(set(counts.values()))}
    for n, topic in telemetry.items():
        size = await fill(bus, topic, n)
        print(f"log: {n} events of {size:.0f} bytes")
    await warm(bus, store, min(count, WARM_EVENTS))
    results: dict[str, list[Result]] = defaultdict(list)
    scores: dict[str, np.ndarray] = {}
    fields: dict[str, object] = {}
    for number in range(rounds):
        for name in names if number % 2 == 0 else names[::-1]:
            n = counts[name]
            run = f"{name}-{os.getpid()}-{number}"
            result, scores[name], fields[name] = await run_side(
                bus, store, telemetry[n], name, run, n
            )
            results[name].append(result)
            print(f"round {number + 1} {name}: {result}", flush=True)
    compare(scores, fields)
    await delete(bus, *telemetry.values())
    return {name: summary(name, counts[name], runs) for name, runs in results.items()}


async def warm(bus: str, store: str, count: int) -> None:
    """Run two sides without counting them: a broker compiles its code while it runs."""
    telemetry = f"bench-telemetry-{os.getpid()}-warm"
    await fill(bus, telemetry, count)
    for name in WARMING:
        await run_side(bus, store, telemetry, name, f"{name}-{os.getpid()}-warm", count)
    await delete(bus, telemetry)


async def run_side(
    bus: str,
    store: str,
    telemetry: str,
    name: str,
    run: str,
    count: int,
    shape: Shape = REFERENCE,
) -> tuple[Result, np.ndarray, object]:
    """One side, once: its figures, its score of every event, the fields of its predictions."""
    side = SIDES[name]
    if not side.makes_topics:
        await create(bus, *side.topics(run))
    with tempfile.TemporaryDirectory() as folder:
        running = side.start(Where(bus, store, telemetry, run, Path(folder), shape))
        try:
            result = await watch(bus, running, count)
        except SystemExit as error:
            raise SystemExit(f"{name}: {error}\n{log_of(Path(folder))}") from None
        finally:
            running.stop()
    sample = await read_sample(bus, running.output, shape.partitions)
    scores = await read_scores(bus, running.output, count, shape.partitions)
    await delete(bus, *side.topics(run))
    return result, scores, {field: type(value).__name__ for field, value in sample.items()}


def log_of(folder: Path) -> str:
    """The last lines a side wrote."""
    return "\n".join(f.read_text("utf-8", "replace")[-2000:] for f in folder.glob("log-*.txt"))


async def watch(bus: str, running: Running, count: int) -> Result:
    """Time from the side's first record to its last prediction, and its CPU meanwhile."""
    await wait_for(bus, running.output, running.first)
    consumer = AIOKafkaConsumer(bootstrap_servers=bus)
    await consumer.start()
    partitions = {
        topic: [TopicPartition(topic, p) for p in range(running.partitions)]
        for topic in (running.output, running.first)
    }

    async def records(topic: str) -> list[int]:
        return list((await consumer.end_offsets(partitions[topic])).values())

    roots = [process.pid for process in running.processes]
    deadline = time.monotonic() + PATIENCE_S
    began = every = None
    done, weighed = 0, 0.0
    peaks: dict[int, float] = {}
    try:
        while time.monotonic() < deadline and not running.ended():
            if began is None and any(await records(running.first)):
                began = Moment(0, time.monotonic(), usage(roots).cpu_s)
            ends, now = await records(running.output), time.monotonic()
            done = sum(ends)
            if every is None and all(ends):
                every = Moment(done, now, usage(roots).cpu_s)
            if done >= count or now - weighed > WEIGH_S:
                used, weighed = usage(roots), now
                peaks |= {pid: max(mb, peaks.get(pid, 0.0)) for pid, mb in used.rss_mb.items()}
                if done >= count and began is not None and every is not None:
                    return figures(began, every, Moment(count, now, used.cpu_s), peaks)
            await asyncio.sleep(LOOK_S)
    finally:
        await consumer.stop()
    why = "one of its processes ended" if running.ended() else f"after {PATIENCE_S:g} s"
    raise SystemExit(f"{done} of {count} predictions, {why}")


def figures(began: Moment, every: Moment, ended: Moment, peaks: dict[int, float]) -> Result:
    """One run as figures.

    Args:
        began: Its first record was there; none of its predictions counts as made before.
        every: Every partition had a prediction.
        ended: All were there.
        peaks: Most resident memory of each process, MiB, by its id.

    Returns:
        With ``steady``, the same figures from `every` on; None where too little was left by then.
    """
    processes: dict[str, float] = {}
    for number, (pid, peak) in enumerate(sorted(peaks.items()), 1):
        name = stage_of(pid) or f"process {number}"
        processes[f"{name} {number}" if name in processes else name] = round(peak, 1)
    enough = ended.done - every.done >= STEADY_SHARE * ended.done
    return rates(began, ended) | {
        "rss_mb": round(sum(peaks.values()), 1),
        "processes_mb": processes,
        "every_partition_s": round(every.at_s - began.at_s, 2),
        "steady": rates(every, ended) if enough else None,
    }


def rates(since: Moment, until: Moment) -> Result:
    """Events per second and CPU per event between two moments.

    Example:
        >>> rates(Moment(100, 1.0, 0.5), Moment(1100, 3.0, 0.51))
        {'events_per_s': 500, 'us_cpu_per_event': 10.0}
    """
    events = until.done - since.done
    return {
        "events_per_s": round(events / (until.at_s - since.at_s)),
        "us_cpu_per_event": round((until.cpu_s - since.cpu_s) / events * 1e6, 2),
    }


def stage_of(pid: int) -> str:
    """Which of Headrace's processes it is; empty for another side's."""
    words = command_line(pid).split()
    if "headrace.streams.worker" in words:
        return words[words.index("headrace.streams.worker") + 1]
    return "supervisor" if "up" in words else ""


def compare(scores: dict[str, np.ndarray], fields: dict[str, object]) -> None:
    """Every side predicted the same events, in the same form, with the same scores.

    Raises:
        SystemExit: it did not.
    """
    (first, expected), *others = scores.items()
    for name, found in scores.items():
        if missing := int(np.isnan(found).sum()):
            raise SystemExit(f"{name} has no prediction of {missing} of {len(found)} events")
    for name, found in others:
        if fields[name] != fields[first]:
            raise SystemExit(f"{name} and {first} write predictions of different form")
        shared = min(len(found), len(expected))
        worst = float(np.abs(found[:shared] - expected[:shared]).max())
        if worst > WORST_SCORE:
            raise SystemExit(f"{name} differs from {first} by {worst} in a score")
    print(f"scores agree: {len(scores)} sides, {max(map(len, scores.values()))} events")


def summary(name: str, count: int, runs: list[Result]) -> dict[str, Any]:
    """Medians of a side's runs, the most memory of each process, and the spread."""
    keys = ("events_per_s", "us_cpu_per_event", "rss_mb")
    most: dict[str, float] = {}
    for run in runs:
        for process, rss_mb in run["processes_mb"].items():
            most[process] = max(rss_mb, most.get(process, 0.0))
    side = SIDES[name]
    return {key: statistics.median(run[key] for run in runs) for key in keys} | {
        "title": side.title,
        "not_given": side.not_given,
        "processes": side.processes,
        "events": count,
        "processes_mb": most,
        "rounds": [run["events_per_s"] for run in runs],
    }
