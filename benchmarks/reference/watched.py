"""What watching costs on the reference job: ``python benchmarks/reference/watched.py``.

Each stage runs alone at full speed over one log, of which one event in a hundred has a sampled
trace: once watched by nobody, and once with everything on, which is latencies by hop, spans, log
lines and drift in the worker, told in its status lines. The two take turns, in an order that is
drawn anew each round; what is compared is CPU per event. What the supervisor does with what it is
told (latencies, objectives, drift, the page that Prometheus reads every five seconds) is timed on
the lines that the watched workers wrote.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal

import msgspec
from machine import machine, moment
from profile_cost import unique
from profile_stage import make_topics, run_stage
from services import kafka, store
from sides import Where
from telemetry_log import delete, fill

from headrace.schemas.pipeline import Pipeline
from headrace.schemas.topics import topics_of
from headrace.streams.observe.exposition import exposition
from headrace.streams.observe.readings import Readings
from headrace.streams.observe.site_watch import SiteWatch
from headrace.streams.workers.jobs import STAGES, Status
from headrace.streams.workers.supervisor import Supervisor

TRACED_EVERY = 100
LOOK_LINES, SCRAPE_LINES = 4, 10
"""Status lines come twice a second: a look every two, a scrape every five."""

Watching = Literal["off", "all"]


class Well:
    """A pipeline of which nothing is wrong."""

    def not_live(self) -> list[str]:
        """See `site_watch.Health`."""
        return []

    def not_ready(self) -> list[str]:
        """See `site_watch.Health`."""
        return []

    def facts(self) -> dict[str, Any]:
        """See `site_watch.Health`."""
        return {"bus": "answers", "store": "answers", "workers": []}


async def main() -> None:
    """Measure, print, write."""
    args = arguments()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # topics that are just being made
    found: dict[str, list[float]] = {}
    told_ms: list[float] = []
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(kafka(args.bus))
        url = await stack.enter_async_context(store(args.store))
        telemetry = unique("watched-telemetry")
        await fill(bus, telemetry, args.events, traced_every=TRACED_EVERY)
        for number in range(args.rounds):
            turns: list[Watching] = random.Random(f"{args.seed} {number}").sample(["off", "all"], 2)
            for watching in turns:
                us, ms = await run(bus, url, telemetry, args.events, watching)
                for stage, cost in us.items():
                    found.setdefault(f"{stage}.{watching}", []).append(round(cost, 3))
                told_ms += ms
                print(f"round {number + 1} {watching}: {us}", flush=True)
    report = summary(found, told_ms) | {"machine": machine(), "measured": moment()}
    print(json.dumps(report if args.json else {k: report[k] for k in ("stages", "supervisor")}))


async def run(
    bus: str, url: str, telemetry: str, count: int, watching: Watching
) -> tuple[dict[str, float], list[float]]:
    """Both stages one after the other: CPU per event of each, and the supervisor's per second."""
    with tempfile.TemporaryDirectory() as folder:
        where = Where(bus, url, telemetry, unique(watching), Path(folder), watching=watching)
        pipeline = await make_topics(where)
        us = {stage: (await run_stage(stage, where, count)).us_per_event for stage in STAGES}
        told = [supervised(pipeline, where.folder)] if watching == "all" else []
        await delete(bus, *(t.name for t in topics_of(pipeline).all() if t.ours))
    return us, told


def supervised(pipeline: Pipeline, folder: Path) -> float:
    """CPU of the supervisor for what both stages told, milliseconds for each second of theirs."""
    supervisor = Supervisor(folder / "pipeline.toml", STAGES)
    readings = Readings(pipeline.name, supervisor)
    watch = SiteWatch(pipeline, readings, Well(), STAGES)
    longest = 0
    began = time.process_time()
    for worker in supervisor.workers:
        lines = (folder / f"status-{worker.stage}.txt").read_bytes().splitlines()
        longest += len(lines)
        for number, line in enumerate(lines):
            status = msgspec.json.decode(line, type=Status)
            for tell in supervisor.told:
                tell(worker, status)
            if number % LOOK_LINES == 0:
                watch.look()
            if number % SCRAPE_LINES == 0:
                exposition(watch.samples(), readings.histograms())
    return (time.process_time() - began) * 1000 / (longest / 2 / len(supervisor.workers))


def summary(found: dict[str, list[float]], told_ms: list[float]) -> dict[str, Any]:
    """Medians, and the share that watching adds to each stage.

    Example:
        >>> made = summary({"enrich.off": [2.0, 2.2], "enrich.all": [2.1, 2.3]}, [1.5])
        >>> made["stages"]["enrich"]
        {'off_us': 2.1, 'all_us': 2.2, 'added': 0.048, 'rounds': [0.05, 0.045]}
    """
    stages = {}
    for stage in STAGES:
        off, on = found.get(f"{stage}.off", []), found.get(f"{stage}.all", [])
        if not off or not on:
            continue
        before, after = statistics.median(off), statistics.median(on)
        stages[stage] = {
            "off_us": round(before, 3),
            "all_us": round(after, 3),
            "added": round(after / before - 1, 3),
            "rounds": [round(b / a - 1, 3) for a, b in zip(off, on, strict=True)],
        }
    return {"stages": stages, "supervisor": {"ms_per_s": round(statistics.median(told_ms), 2)}}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="watched", description=__doc__)
    parser.add_argument("--bus", help="host:port of a real Kafka; default: one of its own")
    parser.add_argument("--store", help="redis:// URL; default: one of its own")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=7, help="of the order in each round")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
