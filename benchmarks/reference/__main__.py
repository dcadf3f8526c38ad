"""Run the reference job: ``python benchmarks/reference --bus HOST:PORT --store URL``.

Every side reads the same log on the same bus and store, one after the other, in several rounds of
changing order. A side's time runs from the first record in any topic it writes to its last
prediction, so neither its start nor the group's join count. Its CPU is that of its own processes
in that span. Sides must produce the same scores, or the run fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from job import DEVICES, events
from sides import GUARANTEES, SIDES, Side

from headrace.schemas.settings import BusSettings
from headrace.streams.kafka import client_options, first_positions

PARTITIONS = 4
PATIENCE_S = 180.0


async def main() -> None:
    """Fill the log, run the rounds, print the table, write the JSON."""
    args = arguments()
    telemetry = f"bench-telemetry-{os.getpid()}"
    size = await fill(args.bus, telemetry, args.events)
    print(f"log: {args.events} events of {size / args.events:.0f} bytes, {DEVICES} devices")
    results: dict[str, list[dict[str, float]]] = defaultdict(list)
    scores: dict[str, dict[str, float]] = {}
    for number in range(args.rounds):
        order = args.sides if number % 2 == 0 else args.sides[::-1]
        for name in order:
            result, scores[name] = await run_side(args, telemetry, name, number)
            results[name].append(result)
            print(f"round {number + 1} {name}: {result}", flush=True)
    compare(scores)
    write(args, results)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bus", required=True, help="host:port of a real Kafka")
    parser.add_argument("--store", required=True, help="redis:// URL")
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--out", type=Path, default=Path("build/bench/reference.json"))
    return parser.parse_args()


async def create(bus: str, *names: str) -> None:
    """Topics of four partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bus)
    await admin.start()
    configs = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(8 << 20)}
    await admin.create_topics(
        [NewTopic(name, PARTITIONS, 1, topic_configs=configs) for name in names]
    )
    await admin.close()


async def fill(bus: str, topic: str, count: int) -> int:
    """Write the log; how many bytes of values it has."""
    await create(bus, topic)
    producer = AIOKafkaProducer(bootstrap_servers=bus, acks="all", max_batch_size=1 << 18)
    await producer.start()
    batches = {p: producer.create_batch() for p in range(PARTITIONS)}
    size = 0
    for device, value in events(count):
        size += len(value)
        p = int(device[-4:]) % PARTITIONS
        key = device.encode()
        if batches[p].append(key=key, value=value, timestamp=None) is None:
            await producer.send_batch(batches[p], topic, partition=p)
            batches[p] = producer.create_batch()
            batches[p].append(key=key, value=value, timestamp=None)
    for p, batch in batches.items():
        await producer.send_batch(batch, topic, partition=p)
    await producer.stop()
    return size


async def run_side(
    args: argparse.Namespace, telemetry: str, name: str, number: int
) -> tuple[dict[str, float], dict[str, float]]:
    """One side, once: its figures, and its score of every event."""
    run = f"{name}-{os.getpid()}-{number}"
    with tempfile.TemporaryDirectory() as folder:
        await create_outputs(args.bus, telemetry, name, run)
        side: Side = SIDES[name](args.bus, args.store, telemetry, run, Path(folder))
        try:
            result = await watch(args.bus, side, args.events)
        finally:
            side.stop()
        return result, await read_scores(args.bus, side.output)


async def create_outputs(bus: str, telemetry: str, name: str, run: str) -> None:
    """The topics a side writes, and where Headrace's groups begin, as `headrace up` does it."""
    if name != "headrace":
        await create(bus, f"{run}.predictions")
        return
    stages = ("deadletter", "late", "features", "predictions", "summaries")
    await create(bus, *(f"headrace.{run}.{stage}.v1" for stage in stages))
    options = client_options(BusSettings(url=f"kafka://{bus}"))
    features = f"headrace.{run}.features.v1"
    await first_positions(options, f"{run}.enrich", [telemetry], "earliest")
    await first_positions(options, f"{run}.serve", [features], "earliest")


async def watch(bus: str, side: Side, count: int) -> dict[str, float]:
    """Time from the side's first record to its last prediction, and its CPU meanwhile."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bus)
    await consumer.start()
    partitions = {
        topic: [TopicPartition(topic, p) for p in range(PARTITIONS)]
        for topic in (side.output, side.first)
    }

    async def records(topic: str) -> int:
        return sum((await consumer.end_offsets(partitions[topic])).values())

    deadline = time.monotonic() + PATIENCE_S
    began, cpu, peak = None, 0.0, 0.0
    while time.monotonic() < deadline:
        if began is None and await records(side.first):
            began, cpu = time.monotonic(), cpu_s(side)
        peak = max(peak, *(rss_mb(p.pid) for p in side.processes))
        done = await records(side.output)
        if done >= count and began is not None:
            seconds = time.monotonic() - began
            used = cpu_s(side) - cpu
            await consumer.stop()
            return {
                "events_per_s": round(count / seconds),
                "us_cpu_per_event": round(used / count * 1e6, 2),
                "rss_mb": round(peak, 1),
            }
        await asyncio.sleep(0.02)
    await consumer.stop()
    raise SystemExit(f"{side.output} has {done} of {count} predictions after {PATIENCE_S} s")


def cpu_s(side: Side) -> float:
    """CPU seconds of the side's processes so far."""
    ticks = 0
    for process in side.processes:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Resident memory of one process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


async def read_scores(bus: str, topic: str) -> dict[str, float]:
    """Score by event id."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bus, auto_offset_reset="earliest")
    await consumer.start()
    partitions = [TopicPartition(topic, p) for p in range(PARTITIONS)]
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)
    scores: dict[str, float] = {}
    while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
        for batch in (await consumer.getmany(timeout_ms=200)).values():
            for record in batch:
                prediction: dict[str, Any] = orjson.loads(record.value)
                scores[prediction["event_id"]] = prediction["score"]
    await consumer.stop()
    return scores


def compare(scores: dict[str, dict[str, float]]) -> None:
    """Every side has the same events and, to float32's last digits, the same scores."""
    (first, expected), *others = scores.items()
    for name, found in others:
        if found.keys() != expected.keys():
            raise SystemExit(f"{name} and {first} did not predict the same events")
        worst = max(abs(found[k] - v) for k, v in expected.items())
        if worst > 1e-5:
            raise SystemExit(f"{name} differs from {first} by {worst} in a score")
    print(f"scores agree: {len(expected)} events, {len(scores)} sides")


def write(args: argparse.Namespace, results: dict[str, list[dict[str, float]]]) -> None:
    """Medians, ratios and spread, to the terminal and to a file."""
    sides = {
        name: {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
        | {"rounds": [r["events_per_s"] for r in rounds], "guarantees": GUARANTEES[name]}
        for name, rounds in results.items()
    }
    report: dict[str, Any] = {"events": args.events, "rounds": args.rounds, "sides": sides}
    if {"headrace", "handwritten"} <= sides.keys():
        ratio = sides["headrace"]["events_per_s"] / sides["handwritten"]["events_per_s"]
        report["headrace_over_handwritten"] = round(ratio, 2)
    packages = ("aiokafka", "faust-streaming", "msgspec", "numpy", "onnxruntime", "orjson", "redis")
    report["versions"] = {"python": platform.python_version()} | {p: version(p) for p in packages}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(report, indent=2))
    for name, side in sides.items():
        print(f"{name:12} {side['events_per_s']:>10,.0f} events/s "
              f"{side['us_cpu_per_event']:>6} us CPU/event {side['rss_mb']:>6} MB")  # fmt: skip
    print(json.dumps(report))


if __name__ == "__main__":
    asyncio.run(main())
