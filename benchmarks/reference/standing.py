"""What Headrace takes to start, and what it holds while nothing comes."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from processes import usage
from sides import SIDES, Where
from telemetry_log import create, wait_for
from watching import stage_of

DEMO_S = 2.0
DEMO_LIMIT_S = 120.0
SETTLE_S = 10.0
"""From the topics being there until memory is read: workers are ready within two seconds."""


def startup(bus: str, runs: int) -> dict[str, Any]:
    """Seconds from the start of `headrace demo` to its first prediction, several times.

    Args:
        bus: ``embedded`` or ``kafka``; both, and the store, are started by the demo. Kafka keeps
            its data from one run to the next.
        runs: How often.
    """
    found: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        environ = os.environ | {
            "HEADRACE_BUS": "local",
            "HEADRACE_BUS_KIND": bus,
            "HEADRACE_STORE": "local",
            "HEADRACE_WORKER_DATA_DIR": folder,
        }
        headrace = str(Path(sys.executable).parent / "headrace")
        command = [headrace, "demo", "--json", "--seconds", str(DEMO_S)]
        for _ in range(runs):
            found.append(_first_prediction_s(command, environ))
            print(f"first prediction on {bus}: {found[-1]} s", flush=True)
    return {"first_prediction_s": statistics.median(found), "runs": found}


def _first_prediction_s(command: list[str], environ: dict[str, str]) -> float:
    """One demo's own figure, from the start of its process as the kernel knows it.

    Raises:
        SystemExit: the demo failed, or no prediction came.
    """
    ran = subprocess.run(
        command, env=environ, check=False, capture_output=True, timeout=DEMO_LIMIT_S
    )
    lines = ran.stdout.splitlines()
    seconds = json.loads(lines[-1])["first_prediction_s"] if not ran.returncode and lines else None
    if seconds is None:
        said = ran.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise SystemExit(f"`headrace demo` gave no prediction, exit code {ran.returncode}: {said}")
    return float(seconds)


async def at_rest(bus: str, store: str) -> dict[str, float]:
    """Resident memory of each of Headrace's processes while nothing comes, MiB."""
    side, run = SIDES["headrace"], f"rest-{os.getpid()}"
    telemetry = f"{run}.telemetry"
    await create(bus, telemetry)
    with tempfile.TemporaryDirectory() as folder:
        running = side.start(Where(bus, store, telemetry, run, Path(folder)))
        try:
            await wait_for(bus, *side.topics(run))
            await asyncio.sleep(SETTLE_S)
            used = usage(process.pid for process in running.processes)
            return {
                stage: round(rss_mb, 1)
                for pid, rss_mb in used.rss_mb.items()
                if (stage := stage_of(pid))
            }
        finally:
            running.stop()
