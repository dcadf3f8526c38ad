"""What exactly-once costs: ``python benchmarks/reference/modes.py``.

Both delivery modes run the reference job in turn, on one broker and store, in one run: events per
second over a log that is there already, and latency at a rate that waits for nobody. Readers take
committed records only. A run's time ends with the last change of its predictions' log, as the
markers of transactions take offsets and so cannot be told from records by counting offsets; every
prediction is then read and counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from environments import CLIENTS, prepare
from latency import latency
from processes import usage
from services import kafka, store
from sides import SIDES, Running, Where
from telemetry_log import delete, fill, read_predictions, wait_for
from throughput import LOOK_S, PATIENCE_S, log_of

MODES = ("at-least-once", "exactly-once")
SIDE = "headrace"
QUIET_S = 3.0
"""So long without a change: all is written."""


async def main() -> None:
    """Run both modes and print one JSON object."""
    args = arguments()
    prepare([CLIENTS] if args.rates else [])
    found: dict[str, Any] = {"rounds": {mode: [] for mode in MODES}, "latency": {}}
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(kafka(args.bus))
        url = await stack.enter_async_context(store(args.store))
        if args.rounds:
            await throughput(bus, url, args, found["rounds"])
        for mode in MODES if args.rates else ():
            found["latency"][mode] = await latency(bus, url, SIDE, args.rates, args.seconds, mode)
    rates = {mode: [run["events_per_s"] for run in runs] for mode, runs in found["rounds"].items()}
    if args.rounds:
        found["events_per_s"] = {mode: statistics.median(runs) for mode, runs in rates.items()}
        once, least = (found["events_per_s"][mode] for mode in reversed(MODES))
        found["ratio"] = round(once / least, 3)
    print(json.dumps(found))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks/reference/modes.py", description=__doc__)
    parser.add_argument("--bus", help="host:port of a real Kafka; default: one of its own")
    parser.add_argument("--store", help="redis:// URL; default: one of its own")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each mode; 0: none")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rates", type=int, nargs="*", default=[1_000, 5_000, 20_000])
    parser.add_argument("--seconds", type=float, default=10.0, help="at each rate")
    return parser.parse_args()


async def throughput(
    bus: str, url: str, args: argparse.Namespace, rounds: dict[str, list[dict[str, Any]]]
) -> None:
    """Each mode `args.rounds` times, in changing order, after one that is not counted."""
    telemetry = f"modes-telemetry-{os.getpid()}"
    await fill(bus, telemetry, args.events)
    await run_mode(bus, url, telemetry, MODES[0], "warm", args.events)
    for number in range(args.rounds):
        for mode in MODES if number % 2 == 0 else MODES[::-1]:
            result = await run_mode(bus, url, telemetry, mode, str(number), args.events)
            rounds[mode].append(result)
            print(f"round {number + 1} {mode}: {result}", flush=True)
    await delete(bus, telemetry)


async def run_mode(
    bus: str, url: str, telemetry: str, mode: str, number: str, count: int
) -> dict[str, Any]:
    """One mode, once; every event must have its prediction."""
    run = f"modes-{mode}-{os.getpid()}-{number}"
    with tempfile.TemporaryDirectory() as folder:
        running = SIDES[SIDE].start(Where(bus, url, telemetry, run, Path(folder), mode=mode))
        try:
            result = await watch(bus, running, count)
        except SystemExit as error:
            raise SystemExit(f"{mode}: {error}\n{log_of(Path(folder))}") from None
        finally:
            running.stop()
    wrote = await read_predictions(bus, running.output, count, running.partitions)
    if missing := int(np.isnan(wrote.scores).sum()):
        raise SystemExit(f"{mode} has no prediction of {missing} of {count} events")
    await delete(bus, *SIDES[SIDE].topics(run))
    return result


async def watch(bus: str, running: Running, count: int) -> dict[str, Any]:
    """Time from the first block to the last change of the predictions, and the CPU meanwhile."""
    await wait_for(bus, running.output, running.first)
    consumer = AIOKafkaConsumer(bootstrap_servers=bus)
    await consumer.start()

    async def ends(topic: str) -> int:
        parts = [TopicPartition(topic, number) for number in range(running.partitions)]
        return sum((await consumer.end_offsets(parts)).values())

    roots = [process.pid for process in running.processes]
    deadline = time.monotonic() + PATIENCE_S
    began, seen = None, 0
    last = (0.0, 0.0)
    try:
        while time.monotonic() < deadline and not running.ended():
            now = time.monotonic()
            if began is None and await ends(running.first):
                began = (now, usage(roots).cpu_s)
            found = await ends(running.output)
            if found > seen:
                seen, last = found, (now, usage(roots).cpu_s)
            if began is not None and seen >= count and now - last[0] > QUIET_S:
                seconds, cpu_s = last[0] - began[0], last[1] - began[1]
                return {
                    "events_per_s": round(count / seconds),
                    "us_cpu_per_event": round(cpu_s / count * 1e6, 2),
                    "transactions": (seen - count),
                }
            await asyncio.sleep(LOOK_S)
    finally:
        await consumer.stop()
    raise SystemExit(f"{seen} offsets of {count} predictions after {PATIENCE_S:g} s")


if __name__ == "__main__":
    asyncio.run(main())
