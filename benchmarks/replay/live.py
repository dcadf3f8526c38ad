"""Whether a gentle replay is felt by what is live: p99 of a pipeline with and without one.

    python benchmarks/replay/live.py [--rate 5000] [--pairs 6] [--seconds 8]

A fleet feeds `press` on a Kafka and a store of this run. Windows come in pairs, one alone and one
beside a replay of another topic at its default speed, first the one and then the other in turns: a
pair has the same machine, and what drifts falls on both sides. The figure is the median of the
pairs' ratios; windows alone that follow each other say how far the same thing is from itself.
Latency is broker time to broker time, from the telemetry record to its prediction. The last line is
one JSON object; several runs are summed up by `--of FILE…`, each a file of such a line.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

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
SETTLE_S, REST_S, BEGIN_S = 12.0, 1.0, 30.0
"""From the start of the fleet to the first window: workers have started by then. Before each
window. The longest that a replay may take to begin."""


class Window(NamedTuple):
    """When it was, seconds since 1970, and whether a replay ran beside."""

    is_beside: bool
    began: float
    ended: float


def started(*args: object, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """A command of Headrace, running."""
    return subprocess.Popen([*HEADRACE, *map(str, args)], env=env, stdout=subprocess.DEVNULL)


def turns(pairs: int) -> list[bool]:
    """Whether a replay runs in each window: every other pair the other way round.

    >>> turns(2)
    [False, True, True, False]
    """
    return [beside for pair in range(pairs) for beside in ((False, True), (True, False))[pair % 2]]


async def begun(replay: subprocess.Popen[bytes], folder: Path) -> None:
    """Return when a replay reads: its start, the same for every command, is no part of a window."""
    for _ in range(round(BEGIN_S * 20)):
        if (folder / "_replay.json").exists() or replay.poll() is not None:
            return
        await asyncio.sleep(0.05)
    raise SystemExit(f"the replay did not begin within {BEGIN_S:g} s")


async def windows(args: argparse.Namespace, env: dict[str, str], folder: Path) -> list[Window]:
    """All windows, one after another."""
    found = []
    for turn, is_beside in enumerate(turns(args.pairs)):
        out, replay = folder / str(turn), None
        if is_beside:
            replay = started("replay", PAST, "-o", out, *args.replay, env=env)
            await begun(replay, out)
        await asyncio.sleep(REST_S)
        began = time.time()  # noqa: TID251 - held against the broker's clock
        await asyncio.sleep(args.seconds)
        found.append(Window(is_beside, began, time.time()))  # noqa: TID251 - likewise
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
        # Longer than all windows last: it is stopped then.
        seconds = SETTLE_S + 2 * args.pairs * (args.seconds + REST_S + 5) + 30
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
    rows = []
    for window in found:
        inside = (ingest >= window.began * 1000) & (ingest < window.ended * 1000)
        p50, p99 = np.percentile(took[inside], (50, 99)).tolist()
        rows.append([window.is_beside, int(inside.sum()), round(p50, 1), round(p99, 1)])
    return {"rate": args.rate, "replay": args.replay, "windows": rows} | judged([rows])


def judged(runs: Sequence[Sequence[Sequence[Any]]]) -> dict[str, Any]:
    """What the windows of several runs say: medians, and ratios of p99 within each pair.

    >>> judged([[[0, 9, 5, 10.0], [1, 9, 5, 12.0], [1, 9, 5, 11.0], [0, 9, 5, 10.0]]])["moved"]
    0.15
    """
    ratios = []
    for rows in runs:
        for pair in zip(rows[::2], rows[1::2], strict=True):
            alone, beside = sorted(pair, key=lambda row: bool(row[0]))
            ratios.append(beside[3] / alone[3])
    itself = [
        max(a[3], b[3]) / min(a[3], b[3])
        for rows in runs
        for a, b in itertools.pairwise(rows)
        if not a[0] and not b[0]
    ]
    every = [row for rows in runs for row in rows]
    sides = {
        name: {
            "p50_ms": median(row[2] for row in every if bool(row[0]) is is_beside),
            "p99_ms": median(row[3] for row in every if bool(row[0]) is is_beside),
        }
        for name, is_beside in (("alone", False), ("beside", True))
    }
    return sides | {
        "moved": round(median(ratios) - 1, 3),
        "pairs_moved": [round(ratio - 1, 3) for ratio in ratios],
        "alone_from_itself": [round(ratio - 1, 3) for ratio in itself],
    }


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=5000)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--past", type=int, default=500_000)
    parser.add_argument("--replay", nargs="*", default=[], help="options of it: --replay=--rate=9")
    parser.add_argument("--of", nargs="+", type=Path, help="sum up these runs instead")
    args = parser.parse_args()
    if args.of:
        runs = [json.loads(file.read_text("utf-8").splitlines()[-1])["windows"] for file in args.of]
        print(json.dumps(judged(runs)))
    else:
        print(json.dumps(asyncio.run(run(args))))


if __name__ == "__main__":
    main()
