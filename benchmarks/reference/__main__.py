"""The reference job, every side in turn: ``python benchmarks/reference`` (``make bench``).

Without --bus and --store it starts an Apache Kafka and a store of its own and ends them. Says how
long it will take, and again before each run of a side. Writes a JSON report and, from that report,
the tables and figures of ``docs/benchmarks.md``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import secrets
import subprocess
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from subprocess import SubprocessError
from typing import Any

import estimate
from document import write_document
from environments import CLIENTS, OWN, prepare, python_of
from latency import latency, median_runs
from machine import machine, moment, source, versions_of
from outcomes import failures
from profile_cost import stage_cost
from progress import Progress
from promised import promised
from scaling import POINTS, scaling
from services import kafka, store
from sides import EMBEDDED, SIDES
from standing import at_rest, startup
from throughput import throughput

from headrace.schemas.errors import HeadraceError

PARTS = ("sides", "latency", "startup", "memory", "stages", "scaling")
USUAL = PARTS[:-1]
"""The parts of a run in which nothing is said: under 27 minutes on two quiet cores."""
LATENCY_RUNS = (
    ("headrace", "kafka"),
    ("handwritten", "kafka"),
    ("headrace_once", "kafka"),
    ("headrace", "embedded"),
)
STARTS = ("embedded", "kafka")
STAGE_EVENTS = 600_000
Told = Callable[[float], None]
"""Takes the share of a part that is done."""


async def main() -> None:
    """Run the parts that are asked for, keep the others' results, write report and page.

    Raises:
        SystemExit: a part, or a run of a side, failed; the page says so, too.
    """
    args = arguments()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # topics that are just being made
    prepare(env for part in args.parts for env in envs_of(part, args))
    minutes = expected(args)
    print(estimate.said(minutes), flush=True)
    progress = Progress(minutes)
    report: dict[str, Any] = json.loads(args.out.read_text()) if args.out.is_file() else {}
    for part in args.parts:
        progress.say(part, 0.0)
        await measure(part, args, report, progress)
        report["machine"] = machine()
        found = versions_of(envs_of(part, args))
        report["versions"] = report.get("versions", {}) | found
        about = {"machine": report["machine"], "versions": found}
        report["measured"][part] |= about | source()
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    args.doc.write_text(write_document(report), "utf-8")
    figures = draw(args.out, args.doc.with_name("benchmarks"))
    print(f"wrote {args.out}, {args.doc} and {figures}")
    if args.json:
        print(json.dumps(promised(report)), flush=True)
    if failed := failures(report, args.parts):
        raise SystemExit("\n".join(f"failed: {line}" for line in failed))


def expected(args: argparse.Namespace) -> dict[str, float]:
    """Minutes that each part will take."""
    return estimate.minutes(
        args.parts, args.sides, most=args.events, rounds=args.rounds, rates=len(args.rates),
        seconds=args.seconds, latency_sides=sum(side in args.sides for side, _ in LATENCY_RUNS),
        latency_rounds=args.latency_rounds, starts=args.starts,
    )  # fmt: skip


def envs_of(part: str, args: argparse.Namespace) -> set[str]:
    """The environments whose programs a part runs."""
    more = {"sides": {SIDES[name].env for name in args.sides}, "latency": {CLIENTS}}
    more["latency"] |= {SIDES[name].env for name, _ in LATENCY_RUNS}
    return {OWN} | more.get(part, set())


async def measure(
    part: str, args: argparse.Namespace, report: dict[str, Any], progress: Progress
) -> None:
    """Put what a part measured into the report; of one that failed the reason alone."""
    report.setdefault("failed", {}).pop(part, None)
    report.setdefault("measured", {})[part] = moment()
    began = time.monotonic()
    try:
        found = await RUN[part](args, partial(progress.say, part))
    except (SystemExit, SubprocessError, HeadraceError) as error:
        print(f"{part} failed: {error}", flush=True)
        report["failed"][part] = str(error)
        report.pop(part, None)  # an older figure would pass for one of this run
        return
    # Dimensions may be measured one at a time; whatever else was measured is replaced.
    report[part] = report.get(part, {}) | found if part == "scaling" else found
    if part == "sides":
        report["measured"][part]["seed"] = args.seed
    report["measured"][part]["minutes"] = round((time.monotonic() - began) / 60, 1)


def draw(report: Path, folder: Path) -> Path:
    """The figures of the page, in an environment of their own; their folder."""
    prepare({"plots"})
    script = str(Path(__file__).with_name("plots.py"))
    subprocess.run([python_of("plots"), script, str(report), str(folder)], check=True)
    return folder


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks/reference", description=__doc__)
    parser.add_argument("--bus", help="host:port of a real Kafka; default: one of its own")
    parser.add_argument("--store", help="redis:// URL; default: one of its own")
    parser.add_argument("--parts", nargs="*", default=list(USUAL), choices=PARTS,
                        help="what to measure; nothing: write page and plots anew")  # fmt: skip
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side")
    parser.add_argument(
        "--events",
        type=int,
        default=1 << 40,
        help="cuts every log to so many; default: ten seconds of work of each side",
    )
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 16),
                        help="of the order of the sides; the report keeps it")  # fmt: skip
    parser.add_argument("--rates", type=int, nargs="+", default=[1_000, 5_000, 20_000, 50_000])
    parser.add_argument("--seconds", type=float, default=6.0, help="at each rate")
    parser.add_argument("--latency-rounds", type=int, default=2, help="runs of each side there")
    parser.add_argument("--starts", type=int, default=5, help="runs of the demo on each bus")
    parser.add_argument("--points", nargs="+", default=list(POINTS), choices=list(POINTS),
                        help="what the scaling part varies")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="shorter logs in the scaling part")
    parser.add_argument("--json", action="store_true",
                        help="end with one JSON object: figures of the sides, latency, startup, "
                        "memory, versions")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("build/bench/reference.json"))
    parser.add_argument("--doc", type=Path, default=Path("docs/benchmarks.md"))
    return parser.parse_args()


async def run_sides(args: argparse.Namespace, told: Told) -> dict[str, Any]:
    """Throughput of every side."""
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(kafka(args.bus))
        url = await stack.enter_async_context(store(args.store))
        return await throughput(
            bus, url, args.sides, rounds=args.rounds, most=args.events, seed=args.seed, told=told
        )


async def run_stages(args: argparse.Namespace, told: Told) -> dict[str, dict[str, float]]:
    """CPU per event of each of Headrace's stages, alone."""
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(kafka(args.bus))
        url = await stack.enter_async_context(store(args.store))
        return await stage_cost(bus, url, events=min(args.events, STAGE_EVENTS), rounds=args.rounds)


async def run_latency(args: argparse.Namespace, told: Told) -> dict[str, Any]:
    """Latency of Headrace in both modes and on both buses, and of the hand-written loop."""
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(kafka(args.bus))
        url = await stack.enter_async_context(store(args.store))
        # Not counted: a broker compiles its code while it runs.
        await latency(bus, url, "handwritten", [5_000], 5.0)
        places = {"kafka": (bus, url), "embedded": (EMBEDDED, "local")}
        runs = {
            f"{side} on {place}": (*places[place], side)
            for side, place in LATENCY_RUNS
            if side in args.sides
        }
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in runs}
        turns = [
            name
            for n in range(args.latency_rounds)
            for name in list(runs)[:: 1 if n % 2 == 0 else -1]
        ]
        for done, name in enumerate(turns):
            told(done / len(turns))
            found[name].append(await latency(*runs[name], args.rates, args.seconds))
    return {name: median_runs(rounds) for name, rounds in found.items()}


async def run_startup(args: argparse.Namespace, told: Told) -> dict[str, Any]:
    """From process start to the first prediction, on both local buses."""
    return {bus: await asyncio.to_thread(startup, bus, args.starts) for bus in STARTS}


async def run_memory(args: argparse.Namespace, told: Told) -> dict[str, float]:
    """What Headrace's processes hold while nothing comes."""
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(kafka(args.bus))
        return await at_rest(bus, await stack.enter_async_context(store(args.store)))


async def run_scaling(args: argparse.Namespace, told: Told) -> dict[str, Any]:
    """How Headrace grows with each dimension of the job."""
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(kafka(args.bus))
        url = await stack.enter_async_context(store(args.store))
        return await scaling(bus, url, args.points, quick=args.quick)


RUN = {
    "sides": run_sides,
    "stages": run_stages,
    "latency": run_latency,
    "startup": run_startup,
    "memory": run_memory,
    "scaling": run_scaling,
}

if __name__ == "__main__":
    asyncio.run(main())
