"""What watching costs on the reference job: ``python benchmarks/reference/watched.py``.

A pipeline watched by nobody and the same with everything on (latencies by hop, spans, log lines and
drift in the worker, told in its status lines) take turns; one event in a hundred has a sampled
trace, and what is compared is CPU per event of each stage (`turns.py`). On a machine that others
use, one pair differs by a tenth either way, so the calls that watch are clocked in the workers,
too: `clocked`, a share of what is not watching, has no such noise, and misses only what they do to
caches.

Then both take turns at 5,000 events/s, and each round's p99 of one is held beside the other's. What
the supervisor does with what it is told (latencies, objectives, drift, the page that Prometheus
reads every five seconds) is timed on the lines that the watched workers wrote.

What is found is added to ``--file``, so that rounds of several runs, each short, make one figure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
from environments import CLIENTS, prepare
from latency import BEGIN_S, WARM_S
from machine import machine, moment
from profile_cost import unique
from services import kafka, store
from sides import Where
from turns import Pair, Side, added, interval, median_us, take_turns
from watched_latency import rounds_of

from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.streams.observe.exposition import exposition
from headrace.streams.observe.readings import Readings
from headrace.streams.observe.site_watch import SiteWatch
from headrace.streams.workers.jobs import STAGES, Status
from headrace.streams.workers.supervisor import Supervisor

TRACED_EVERY = 100
ROUND_S = 5.0
"""Counted in a turn for latency, seconds."""

LOOK_LINES, SCRAPE_LINES = 4, 10
"""Status lines come twice a second: a look every two, a scrape every five."""

Found = dict[str, list[Any]]
"""By stage the pairs of turns, and as ``STAGE.clocked`` what its watching took of its CPU; `p50_ms`
and `p99_ms`, rounds of both; `supervisor`, ms a second."""


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
    """Measure, add to the file, print what all of it says."""
    args = arguments()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # topics that are just being made
    found: Found = json.loads(args.file.read_text("utf-8")) if args.file.exists() else {}
    if "latency" in args.parts:
        prepare([CLIENTS])
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(kafka(args.bus))
        url = await stack.enter_async_context(store(args.store))
        if "cost" in args.parts:
            await cost(bus, url, args, found)
        if "latency" in args.parts:
            await latency(bus, url, args, found)
    args.file.parent.mkdir(parents=True, exist_ok=True)
    args.file.write_text(json.dumps(found), "utf-8")
    print(json.dumps(summary(found) | {"machine": machine(), "measured": moment()}))


async def cost(bus: str, url: str, args: argparse.Namespace, found: Found) -> None:
    """What events cost: watched by nobody, and with everything on."""
    with tempfile.TemporaryDirectory() as name:
        off, on = sides_in(name, bus, url)
        turns = await take_turns(off, on, bus, args.events, seconds=args.seconds, seed=args.seed)
        for stage, pairs in turns.items():
            found.setdefault(stage, []).extend(pairs)
        for stage, clocked in on.clocked().items():
            found.setdefault(f"{stage}.clocked", []).append(clocked)
        pipeline = load_pipeline(on.where.folder / "pipeline.toml")
        found.setdefault("supervisor", []).append(supervised(pipeline, on.where.folder))


async def latency(bus: str, url: str, args: argparse.Namespace, found: Found) -> None:
    """How long they take: watched by nobody, and with everything on."""
    rounds = max(1, round(args.seconds / (2 * (ROUND_S + WARM_S + BEGIN_S))))
    with tempfile.TemporaryDirectory() as name:
        off, on = sides_in(name, bus, url)
        told = await rounds_of(
            off, on, bus, rate=args.rate, seconds=ROUND_S, rounds=rounds, seed=args.seed
        )
    for percentile, rows in told.items():
        found.setdefault(percentile, []).extend(rows)


def sides_in(place: str, bus: str, url: str) -> tuple[Side, Side]:
    """A pipeline watched by nobody and one with everything on, each with a telemetry of its own."""
    off, on = (
        Side(
            Where(
                bus,
                url,
                unique(f"{one}-telemetry"),
                unique(one),
                folder_of(place, one),
                watching=one,
            ),
            traced_every=TRACED_EVERY,
        )
        for one in ("off", "all")
    )
    return off, on


def folder_of(place: str, name: str) -> Path:
    """A folder of one side's own."""
    made = Path(place) / name
    made.mkdir()
    return made


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


def summary(found: Found) -> dict[str, Any]:
    """What watching adds: to CPU per event of each stage and of both, to latency, to `up`.

    Example:
        >>> made = summary({"enrich": [(1.0, 10**6, 1.02, 10**6)] * 4})
        >>> made["stages"]["enrich"]["added"], made["stages"]["enrich"]["pairs"]
        (0.02, 4)
    """
    report: dict[str, Any] = {"stages": {}}
    for stage in STAGES:
        if stage in found:
            report["stages"][stage] = of_stage(found[stage])
        if clocked := found.get(f"{stage}.clocked"):
            watching, whole = map(sum, zip(*clocked, strict=True))
            report["stages"].setdefault(stage, {})["clocked"] = round(
                watching / (whole - watching), 4
            )
    if all(stage in found for stage in STAGES):
        both = zip(*(found[stage] for stage in STAGES), strict=True)
        report["job"] = of_stage([together(*pairs) for pairs in both])
    for name in ("p50_ms", "p99_ms"):
        if name in found:
            report[name] = of_latency(found[name])
    if "supervisor" in found:
        report["supervisor"] = {"ms_per_s": round(statistics.median(found["supervisor"]), 2)}
    return report


def together(one: Pair, other: Pair) -> Pair:
    """Both stages of the same turns: an event goes through either."""
    return one[0] + other[0], one[1], one[2] + other[2], one[3]


def of_stage(pairs: Sequence[Pair]) -> dict[str, Any]:
    """CPU per event of both, what is added, and where 95 of 100 draws of the turns put that."""
    return {
        "off_us": round(median_us(pairs, 0), 3),
        "all_us": round(median_us(pairs, 1), 3),
        "added": round(added(pairs), 4),
        "interval": [round(share, 4) for share in interval(pairs, added)],
        "pairs": len(pairs),
    }


def of_latency(rows: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Medians of both, and of their difference in one round; where 95 of 100 draws put that."""
    differences = [on - off for off, on in rows]
    return {
        "off": round(statistics.median(off for off, _ in rows), 2),
        "all": round(statistics.median(on for _, on in rows), 2),
        "added": round(statistics.median(differences), 2),
        "interval": [round(ms, 2) for ms in interval(differences, statistics.median)],
        "rounds": len(rows),
    }


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="watched", description=__doc__)
    parser.add_argument("--bus", help="host:port of a real Kafka; default: one of its own")
    parser.add_argument("--store", help="redis:// URL; default: one of its own")
    parser.add_argument("--parts", nargs="+", default=["cost", "latency"], help="cost, latency")
    parser.add_argument("--events", type=int, default=40_000, help="of a turn")
    parser.add_argument("--rate", type=int, default=5000, help="events per second for latency")
    parser.add_argument("--seconds", type=float, default=80.0, help="of turns, and of latency")
    parser.add_argument("--seed", type=int, default=7, help="of who is first in each pair")
    parser.add_argument("--file", type=Path, default=Path("build/bench/watched.json"))
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
