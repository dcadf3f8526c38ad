"""How many events per second each side gets through, and for how much CPU.

Every side reads a log that is already there, on the same bus and store, one after the other, in
rounds of changing order, on a broker that is warm. A side's time runs from the first record seen in
any topic it writes to its last prediction: neither its start nor the group's join counts, nor what
it had predicted by then. Its CPU is that of its own processes in that span; that of the bus and the
store, where they were started here, is a figure of its own.
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
from services import started
from sides import SIDES, Running, Where
from telemetry_log import Predictions, create, delete, fill, read_predictions, wait_for

PATIENCE_S = 180.0
LOOK_S = 0.02
WEIGH_S = 0.5
WARM_EVENTS = 200_000
WARMING = ("handwritten", "headrace")
SETTLE_S = 2.0
"""Pause before each side, after what is still to be written to disk."""
LENGTHS = 0.01
"""Most that two sides' mean length of a prediction may differ, as a share."""
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
        services_cpu_s: CPU time that bus and store had used, seconds.
    """

    done: int
    at_s: float
    cpu_s: float
    services_cpu_s: float = 0.0


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
        size = await fill(bus, topic, n, repeats=True)
        print(f"log: {n} events of {size:.0f} bytes")
    await warm(bus, store, min(count, WARM_EVENTS))
    results: dict[str, list[Result]] = defaultdict(list)
    wrote: dict[str, Predictions] = {}
    for number in range(rounds):
        for name in in_turn(names, number):
            n = counts[name]
            run = f"{name}-{os.getpid()}-{number}"
            result, wrote[name] = await run_side(bus, store, telemetry[n], name, run, n)
            results[name].append(result)
            print(f"round {number + 1} {name}: {result}", flush=True)
            compare(wrote)  # at once: a long run that is no comparison need not end first
    await delete(bus, *telemetry.values())
    print(f"predictions agree: {len(wrote)} sides, {max(counts.values())} events")
    return {name: summary(name, counts[name], runs) for name, runs in results.items()}


def in_turn(names: Sequence[str], number: int) -> list[str]:
    """The sides of a round: each round another is the first.

    >>> in_turn(["a", "b", "c"], 1)
    ['b', 'c', 'a']
    """
    first = number % len(names)
    return [*names[first:], *names[:first]]


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
    wrote = await read_predictions(bus, running.output, count, shape.partitions)
    await delete(bus, *side.topics(run))
    return result, wrote


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
                began = _moment(sum(await records(running.output)), roots)
            ends, now = await records(running.output), time.monotonic()
            done = sum(ends)
            if every is None and all(ends):
                every = _moment(done, roots, now)
            if done >= count or now - weighed > WEIGH_S:
                used, weighed = usage(roots), now
                peaks |= {pid: max(mb, peaks.get(pid, 0.0)) for pid, mb in used.rss_mb.items()}
                if done >= count and began is not None and every is not None:
                    return figures(began, every, _moment(count, roots, now), peaks)
            await asyncio.sleep(LOOK_S)
    finally:
        await consumer.stop()
    why = "one of its processes ended" if running.ended() else f"after {PATIENCE_S:g} s"
    raise SystemExit(f"{done} of {count} predictions, {why}")


def _moment(done: int, roots: Sequence[int], at_s: float | None = None) -> Moment:
    """Now, or at the moment that is given, with the CPU time used until now."""
    at_s = time.monotonic() if at_s is None else at_s
    return Moment(done, at_s, usage(roots).cpu_s, usage(started()).cpu_s)


def figures(began: Moment, every: Moment, ended: Moment, peaks: dict[int, float]) -> Result:
    """One run as figures.

    Args:
        began: Its first record was there; predictions that were out by then do not count.
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
        "us_cpu_of_services": per_event(began, ended),
    }


def per_event(since: Moment, until: Moment) -> float | None:
    """CPU of bus and store, µs per event; None where they were not started here."""
    spent_s = until.services_cpu_s - since.services_cpu_s
    return round(spent_s / (until.done - since.done) * 1e6, 2) if spent_s else None


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


def compare(wrote: dict[str, Predictions]) -> None:
    """Every side predicted the same events with the same values, but for id and time of serving.

    Raises:
        SystemExit: it did not.
    """
    (first, expected), *others = wrote.items()
    for name, found in wrote.items():
        if missing := int(np.isnan(found.scores).sum()):
            raise SystemExit(f"{name} has no prediction of {missing} of {len(found.scores)} events")
    for name, found in others:
        one_log = len(found.scores) == len(expected.scores)
        if differ := different(found.sample, expected.sample, one_log=one_log):
            raise SystemExit(f"{name} and {first} write different values of {', '.join(differ)}")
        longer = abs(found.value_bytes / expected.value_bytes - 1)
        if longer > LENGTHS:
            raise SystemExit(f"predictions of {name} and {first} differ by {longer:.1%} in length")
        shared = min(len(found.scores), len(expected.scores))
        worst = float(np.abs(found.scores[:shared] - expected.scores[:shared]).max())
        if worst > WORST_SCORE:
            raise SystemExit(f"{name} differs from {first} by {worst} in a score")


def different(a: Result, b: Result, *, one_log: bool) -> list[str]:
    """Fields of two predictions of one event whose values differ.

    The id and the time of serving are each side's own. The name of the log and its broker's times
    are compared only where both sides read `one_log`.
    """
    a, b = (_comparable(prediction, one_log=one_log) for prediction in (a, b))
    return sorted(name for name in a.keys() | b.keys() if not _same(a.get(name), b.get(name)))


def _comparable(prediction: Result, *, one_log: bool) -> Result:
    times = {name: at for name, at in prediction["times_ms"].items() if name != "served"}
    found = prediction | {"times_ms": times, "id": len(prediction["id"])}
    if not one_log:
        age_ms = times.pop("ingest") - times["device"]
        found["feature_age_ms"] -= age_ms
        found["source"] = found["source"].partition("[")[2]
    return found


def _same(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= WORST_SCORE
    return type(a) is type(b) and a == b


def summary(name: str, count: int, runs: list[Result]) -> dict[str, Any]:
    """Medians of a side's runs, the most memory of each process, and the spread."""
    keys = ("events_per_s", "us_cpu_per_event", "rss_mb")
    most: dict[str, float] = {}
    for run in runs:
        for process, rss_mb in run["processes_mb"].items():
            most[process] = max(rss_mb, most.get(process, 0.0))
    side = SIDES[name]
    services = [us for run in runs if (us := run["us_cpu_of_services"]) is not None]
    return {key: statistics.median(run[key] for run in runs) for key in keys} | {
        "us_cpu_of_services": statistics.median(services) if services else None,
        "title": side.title,
        "not_given": side.not_given,
        "processes": side.processes,
        "events": count,
        "processes_mb": most,
        "rounds": [run["events_per_s"] for run in runs],
    }
