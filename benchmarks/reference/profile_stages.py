"""Where the time goes: ``python benchmarks/reference/profile_stages.py`` (``make profile``).

Runs the reference job one stage at a time at full speed, first without a profiler and then with
one, and then, with --rate, both stages at that rate. Prints what each costs and on what; writes the
same as JSON, and beside it the stacks of each stage, which flame graph viewers (speedscope) read.

Without --bus and --store it starts an Apache Kafka and a store of its own and ends them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
from contextlib import AsyncExitStack
from pathlib import Path

from machine import machine, moment
from profile_cost import median_run, run_stages, unique
from profile_rate import run_at_rate
from profile_report import Figures, figures, text
from services import kafka, store
from telemetry_log import delete, fill

from headrace.streams.workers.jobs import STAGES


async def main() -> None:
    """Measure, print, write."""
    args = arguments()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # topics that are just being made
    args.out.parent.mkdir(parents=True, exist_ok=True)
    report: Figures = {"machine": machine(), "measured": moment(), "hz": args.hz}
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(kafka(args.bus))
        url = await stack.enter_async_context(store(args.store))
        report["stages"] = await at_full_speed(bus, url, args)
        if args.rate:
            report["rate"] = {str(args.rate): await at_rate(bus, url, args)}
    args.out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(f"wrote {args.out}; the stacks are beside it")


async def at_full_speed(bus: str, url: str, args: argparse.Namespace) -> Figures:
    """Each stage alone."""
    telemetry, found = unique("profile-telemetry"), {}
    await fill(bus, telemetry, args.events)
    stages = [args.stage] if args.stage else list(STAGES)
    plain = [
        await run_stages(bus, url, telemetry, f"plain-{number}", args.events, stages=stages)
        for number in range(args.rounds)
    ]
    sampled = await run_stages(
        bus, url, telemetry, "sampled", args.events,
        stages=stages, samples=args.out.parent, hz=args.hz,
    )  # fmt: skip
    await delete(bus, telemetry)
    for stage in stages:
        middle = median_run([runs[stage] for runs in plain])
        found[stage] = figures(middle, sampled[stage], top=args.top)
        print(text(stage, found[stage]), flush=True)
    return found


async def at_rate(bus: str, url: str, args: argparse.Namespace) -> Figures:
    """Both stages at one rate."""
    found = {}
    runs = await run_at_rate(bus, url, args.rate, args.seconds, samples=args.out.parent, hz=args.hz)
    for stage, (plain, sampled) in runs.items():
        found[stage] = figures(plain, sampled, top=args.top)
        print(text(f"{stage} at {args.rate:,} events/s", found[stage]), flush=True)
    return found


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="profile_stages", description=__doc__)
    parser.add_argument("--bus", help="host:port of a real Kafka; default: one of its own")
    parser.add_argument("--store", help="redis:// URL; default: one of its own")
    parser.add_argument("--stage", choices=STAGES, help="default: both, one after the other")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1, help="runs without a profiler")
    parser.add_argument("--rate", type=int, default=0, help="then both, at events/s; 0: not")
    parser.add_argument("--seconds", type=float, default=10.0, help="each stretch at the rate")
    parser.add_argument("--top", type=int, default=25, help="functions shown")
    parser.add_argument("--hz", type=int, default=500, help="samples per second")
    parser.add_argument("--out", type=Path, default=Path("build/bench/profile.json"))
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
