"""Telemetry to Parquet from a real Kafka, beside a hand-written script: ``make bench-replay``.

    python benchmarks/replay [--events 1500000] [--rounds 3] [--out build/bench/replay.json]

Both sides read the reference job's log (200-byte events, 4 metrics, 1000 devices, 4 partitions)
from a Kafka of this run and write the same columns in the same codec; their rows are compared.
Broker and sides share this machine's cores. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "reference"))

import pyarrow.parquet as pq  # noqa: E402
import services  # noqa: E402
import telemetry_log  # noqa: E402
from job import METRICS, PARTITIONS  # noqa: E402

HEADRACE = [sys.executable, "-c", "from headrace.streams.cli.main import main; main()"]
ENV = Path("build/bench/envs/replay")
TOPIC = "replayed"
PIPELINE = f"""
name = "replay-bench"
[input]
key = "entity"
raw = ["payload"]
max_skew_s = 1e9
[input.metrics]
temperature_c = {{ min = -100.0, max = 500.0 }}
vibration_g = {{ min = 0.0, max = 100.0 }}
pressure_bar = {{ min = 0.0, max = 1000.0 }}
current_a = {{ min = 0.0, max = 1000.0 }}
[views.machine]
features = [{{ op = "raw", metrics = ["*"] }}]
[model]
file = "model.onnx"
[topics]
telemetry = "{TOPIC}"
"""
SIDES = ("headrace", "headrace_1", "handwritten", "handwritten_x2")


def own_python() -> str:
    """The script's interpreter, in an environment of its own; made where it is missing."""
    pins = (HERE / "requirements.txt").read_text("utf-8")
    done = ENV / "pins.txt"
    python = ENV / "bin" / "python"
    if not (done.is_file() and done.read_text("utf-8") == pins):
        uv = [sys.executable, "-m", "uv", "--quiet"]
        subprocess.run([*uv, "venv", "--clear", "--python", sys.executable, ENV], check=True)
        pip = ["pip", "install", "--compile-bytecode", "--python", str(python)]
        subprocess.run([*uv, *pip, "-r", str(HERE / "requirements.txt")], check=True)
        done.write_text(pins, "utf-8")
    return str(python)


def commands(side: str, bus: str, folder: Path, pipeline: Path) -> list[list[str]]:
    """The processes of a side, run together."""
    if side.startswith("headrace"):
        workers = "1" if side.endswith("_1") else "2"
        out = ["-o", str(folder), "--full-speed", "--workers", workers]
        return [[*HEADRACE, "replay", "telemetry", "-p", str(pipeline), *out]]
    script = [own_python(), str(HERE / "handwritten.py"), bus, TOPIC, str(folder)]
    every = list(map(str, range(PARTITIONS)))
    halves = [every[::2], every[1::2]] if side.endswith("_x2") else [every]
    return [[*script, *half] for half in halves]


def run_side(side: str, bus: str, folder: Path, pipeline: Path) -> dict[str, float]:
    """Seconds from the start of its processes to their end, and their CPU time."""
    env = os.environ | {"HEADRACE_BUS": f"kafka://{bus}"}
    began, before = time.perf_counter(), os.times()
    running = [
        subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
        for command in commands(side, bus, folder, pipeline)
    ]
    codes = [process.wait() for process in running]
    wall, after = time.perf_counter() - began, os.times()
    if any(codes):
        raise SystemExit(f"{side} ended with {codes}")
    cpu = after.children_user - before.children_user
    cpu += after.children_system - before.children_system
    return {"seconds": wall, "cpu_s": cpu}


def table(folder: Path) -> Any:
    """All rows of a side, by partition and offset."""
    found = pq.read_table(folder, ignore_prefixes=[".", "_"])
    return found.sort_by([("partition", "ascending"), ("offset", "ascending")])


def agree(a: Path, b: Path, count: int) -> None:
    """Both folders hold the same rows.

    Raises:
        SystemExit: they do not.
    """
    ours, theirs = table(a), table(b)
    names = ["partition", "offset", "log_time", "event_time", "event_id", "device_id", *METRICS]
    if ours.num_rows != count or not ours.select(names).equals(theirs.select(names)):
        raise SystemExit("the sides wrote different rows")


async def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Every side in turn, `rounds` times."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in args.sides}
    own_python()
    async with services.kafka(args.bus) as bus:
        await telemetry_log.fill(bus, TOPIC, args.events)
        with tempfile.TemporaryDirectory(prefix="bench-replay-") as made:
            pipeline = Path(made) / "pipeline.toml"
            pipeline.write_text(PIPELINE, "utf-8")
            for turn in range(args.rounds):
                order = args.sides if turn % 2 == 0 else args.sides[::-1]
                for side in order:
                    folder = Path(made) / side
                    shutil.rmtree(folder, ignore_errors=True)
                    found[side].append(run_side(side, bus, folder, pipeline))
                    print(f"{side:15} {found[side][-1]}", flush=True)
            if {"headrace", "handwritten"} <= set(args.sides):
                agree(Path(made) / "headrace", Path(made) / "handwritten", args.events)
    return {side: summary(runs, args.events) for side, runs in found.items()}


def summary(runs: list[dict[str, float]], events: int) -> dict[str, Any]:
    """Rates of a side: the median round, and all of them."""
    rates = [events / run["seconds"] for run in runs]
    return {
        "events_per_s": round(median(rates)),
        "rounds": [round(rate) for rate in rates],
        "us_cpu_per_event": round(median(r["cpu_s"] for r in runs) / events * 1e6, 2),
    }


def main() -> None:
    """Run, print a table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--bus", help="host:port of a Kafka instead of one of this run")
    parser.add_argument("--out", type=Path, default=Path("build/bench/replay.json"))
    args = parser.parse_args()
    sides = asyncio.run(measure(args))
    done = {"events": args.events, "cores": len(os.sched_getaffinity(0)), "sides": sides}
    for side, row in sides.items():
        print(
            f"{side:15} {row['events_per_s']:>9,} events/s  {row['us_cpu_per_event']:5.2f} us CPU"
        )
    if {"headrace", "handwritten"} <= sides.keys():
        ratio = sides["headrace"]["events_per_s"] / sides["handwritten"]["events_per_s"]
        done["ratio"] = round(ratio, 2)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(done, indent=1) + "\n", "utf-8")
    print(json.dumps(done))


if __name__ == "__main__":
    main()
