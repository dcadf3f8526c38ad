"""Two pipelines on the same telemetry at once: watched by nobody, and with everything on."""

from __future__ import annotations

import asyncio
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from job import DEVICES, events
from latency import BEGIN_S, PATIENCE_S, WARM_S, said, start_client
from profile_cost import unique
from profile_stage import StageProcess, make_topics
from sides import Where
from telemetry_log import await_records, create, send

from headrace.schemas.topics import topics_of
from headrace.streams.workers.jobs import STAGES


async def side_by_side(
    bus: str, store: str, rate: int, seconds: float, rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Percentiles of both in each round, milliseconds: of the same events at the same moments.

    Args:
        bus: host:port.
        store: URL.
        rate: Events per second.
        seconds: Counted in each round; `WARM_S` before it are not.
        rounds: How many.

    Raises:
        SystemExit: predictions did not come.
    """
    telemetry = unique("beside-telemetry")
    await create(bus, telemetry)
    with tempfile.TemporaryDirectory() as name:
        sides = [
            Where(bus, store, telemetry, unique(one), Path(name) / one, watching=one)
            for one in ("off", "all")
        ]
        outputs = []
        for side in sides:
            side.folder.mkdir()
            outputs.append(topics_of(await make_topics(side)).predictions.name)
        with running([StageProcess(stage, side) for side in sides for stage in STAGES]):
            await send(bus, telemetry, events(DEVICES))
            for output in outputs:
                if not await await_records(bus, output, DEVICES, PATIENCE_S):
                    raise SystemExit("no predictions of the first events")
            first, found = DEVICES, []
            for _ in range(rounds):
                found.append(await one_round(bus, telemetry, outputs, rate, seconds, first))
                print(f"round at {rate}/s: {found[-1]}", flush=True)
                first += round(rate * (WARM_S + seconds))
    return {
        key: [(off[key], on[key]) for off, on in found if off[key] is not None and on[key]]
        for key in ("p50_ms", "p99_ms")
    }


@contextmanager
def running(processes: list[StageProcess]) -> Iterator[None]:
    """Workers, ended with the block."""
    try:
        for process in processes:
            process.start()
        yield
    finally:
        for process in processes:
            process.stop()


async def one_round(
    bus: str, telemetry: str, outputs: list[str], rate: int, seconds: float, first: int
) -> list[dict[str, float]]:
    """What the receiver of each side measured of one sender's events."""
    count, warm = round(rate * (WARM_S + seconds)), round(rate * WARM_S)
    sender = start_client("sender.py", bus, telemetry, rate, count, first)
    receivers = [
        start_client("receiver.py", bus, output, rate, count, first, warm) for output in outputs
    ]
    clients = [*receivers, sender]
    try:
        for one in clients:
            await asyncio.to_thread(said, one)
        start(clients, time.monotonic() + BEGIN_S)
        lines = await asyncio.gather(*[asyncio.to_thread(said, one) for one in clients])
    finally:
        for one in clients:
            one.kill()
            one.wait()
    return [json.loads(one) for one in lines[:-1]]


def start(clients: list[subprocess.Popen[bytes]], begin: float) -> None:
    """Tell them when: seconds on the monotonic clock."""
    for one in clients:
        if one.stdin is not None:
            one.stdin.write(f"{begin}\n".encode())
            one.stdin.flush()
