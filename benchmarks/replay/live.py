"""Whether a gentle replay is felt by what is live: p99 of a pipeline with and without one.

    python benchmarks/replay/live.py [--rate 5000] [--windows 4] [--seconds 10]

A fleet feeds `press` on a Kafka and a store of this run; in every other window a replay of another
topic, a million events long, runs at its default speed. Latency is broker time to broker time, from
the telemetry record to its prediction. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "reference"))

import numpy as np  # noqa: E402
import services  # noqa: E402
import telemetry_log  # noqa: E402

from headrace.schemas.settings import BusSettings  # noqa: E402
from headrace.streams.replay import open_replay  # noqa: E402

HEADRACE = [sys.executable, "-c", "from headrace.streams.cli.main import main; main()"]
PRESS = HERE.parents[1] / "examples" / "press" / "pipeline.toml"
PAST = "headrace.past.telemetry.v1"
SETTLE_S = 10.0
"""From the start of the fleet to the first window: workers have started by then."""


def started(*args: object, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """A command of Headrace, running."""
    return subprocess.Popen([*HEADRACE, *map(str, args)], env=env, stdout=subprocess.DEVNULL)


async def windows(
    args: argparse.Namespace, env: dict[str, str], folder: Path
) -> list[tuple[bool, float, float]]:
    """Each window: whether a replay ran, and from when to when, seconds since 1970."""
    found = []
    for turn in range(args.windows * 2):
        is_beside = turn % 2 == 1
        replay = started("replay", PAST, "-o", folder / str(turn), env=env) if is_beside else None
        await asyncio.sleep(1.0)  # its start is no part of a window
        began = time.time()  # noqa: TID251 - held against the broker's clock
        await asyncio.sleep(args.seconds)
        found.append((is_beside, began, time.time()))  # noqa: TID251 - likewise
        if replay is not None:
            if replay.poll() is not None:
                raise SystemExit("the replay ended before its window did; give it more events")
            replay.send_signal(signal.SIGKILL)
            replay.wait()
    return found


async def latencies(bus: BusSettings) -> tuple[Any, Any]:
    """Broker time of each telemetry record, and its latency, both milliseconds."""
    async with open_replay(bus, "predictions", pipeline=PRESS, full_speed=True) as replay:
        batches = [batch async for batch in replay.batches()]
    ingest, done = (
        np.concatenate([batch[name].cast("int64").to_numpy() for batch in batches])
        for name in ("ingest_time", "log_time")
    )
    return ingest, done - ingest


async def run(args: argparse.Namespace) -> dict[str, Any]:
    """Fill, start, measure."""
    async with services.kafka(None) as bus, services.store(None) as store:
        await telemetry_log.fill(bus, PAST, args.past)
        env = os.environ | {"HEADRACE_BUS": f"kafka://{bus}", "HEADRACE_STORE": store}
        up = started("up", "press", env=env)
        seconds = SETTLE_S + 2 * args.windows * (args.seconds + 1.5) + 5
        with tempfile.TemporaryDirectory(prefix="bench-live-") as made:
            await asyncio.sleep(5)
            fleet = started(
                "produce", "fleet", "--pipeline", "press", "--rate", args.rate,
                "--seconds", seconds, env=env,
            )  # fmt: skip
            try:
                await asyncio.sleep(SETTLE_S)
                found = await windows(args, env, Path(made))
            finally:
                for process in (fleet, up):
                    process.send_signal(signal.SIGTERM)
                    process.wait()
        ingest, took = await latencies(BusSettings(url=f"kafka://{bus}"))
    result: dict[str, Any] = {"rate": args.rate}
    for name, is_beside in (("alone", False), ("beside", True)):
        rows = [
            np.percentile(took[(ingest >= began * 1000) & (ingest < ended * 1000)], (50, 99))
            for which, began, ended in found
            if which is is_beside
        ]
        result[name] = {
            "p50_ms": round(float(np.median([row[0] for row in rows])), 1),
            "p99_ms": round(float(np.median([row[1] for row in rows])), 1),
            "windows_p99_ms": [round(float(row[1]), 1) for row in rows],
        }
    result["moved"] = round(result["beside"]["p99_ms"] / result["alone"]["p99_ms"] - 1, 3)
    return result


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=5000)
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--past", type=int, default=1_000_000)
    print(json.dumps(asyncio.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
