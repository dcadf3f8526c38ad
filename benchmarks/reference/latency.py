"""Latency at a rate that does not wait for anybody, on Kafka and on the embedded bus."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from environments import CLIENTS, python_of
from job import DEVICES, events
from processes import usage
from sides import EMBEDDED, SIDES, Running, Where
from telemetry_log import await_records, create, send, wait_for
from throughput import log_of, run_of

WARM_S = 2.0
BEGIN_S = 1.0
"""From the moment both clients are ready to the first event."""
PATIENCE_S = 60.0
_NUMBER = itertools.count()
BUS_URL = re.compile(r"kafka://(\S+)")
HERE = Path(__file__).parent


async def latency(
    bus: str,
    store: str,
    name: str,
    rates: Sequence[int],
    seconds: float,
) -> dict[str, Any]:
    """One side at every rate, in ascending order, without a restart between them.

    Args:
        bus: host:port, or ``embedded``: Headrace starts its own.
        store: URL, or ``local``.
        name: Side.
        rates: Events per second.
        seconds: Time counted at each rate; `WARM_S` before it are not counted.
    """
    side, run = SIDES[name], run_of(name, f"latency-{next(_NUMBER)}")
    telemetry = f"headrace.{run}.telemetry.v1" if bus == EMBEDDED else f"{run}.telemetry"
    if bus != EMBEDDED:
        await create(bus, telemetry)
        if not side.makes_topics:
            await create(bus, *side.topics(run))
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        running = side.start(Where(bus, store, telemetry, run, Path(folder)))
        try:
            bus = await bus_of(bus, Path(folder))
            first = await warm(bus, telemetry, running)
            for rate in sorted(rates):
                found[str(rate)] = await at_rate(bus, telemetry, running, rate, seconds, first)
                print(f"{name} at {rate}/s: {found[str(rate)]}", flush=True)
                first += round(rate * (WARM_S + seconds))
        except SystemExit as error:
            raise SystemExit(f"{name}: {error}\n{log_of(Path(folder))}") from None
        finally:
            running.stop()
    return found


async def bus_of(bus: str, folder: Path) -> str:
    """host:port; of an embedded bus as `headrace up` says it."""
    deadline = time.monotonic() + PATIENCE_S
    while bus == EMBEDDED:
        found = BUS_URL.search((folder / "log-0.txt").read_text("utf-8"))
        if found is not None:
            return found[1]
        if time.monotonic() > deadline:
            raise SystemExit("its bus did not start")
        await asyncio.sleep(0.1)
    return bus


async def warm(bus: str, telemetry: str, running: Running) -> int:
    """Send one event of every device and await the predictions: the side is ready; how many."""
    await wait_for(bus, telemetry, running.output)
    await send(bus, telemetry, events(DEVICES))
    if not await await_records(bus, running.output, DEVICES, PATIENCE_S):
        raise SystemExit("no predictions of the first events")
    return DEVICES


async def at_rate(
    bus: str, telemetry: str, running: Running, rate: int, seconds: float, first: int
) -> dict[str, Any]:
    """One rate.

    Returns:
        What the receiver measured, how far the sender fell behind its schedule, and how many
        cores the side kept busy.
    """
    count, warm_events = round(rate * (WARM_S + seconds)), round(rate * WARM_S)
    clients = [
        _client("receiver.py", bus, running.output, rate, count, first, warm_events),
        _client("sender.py", bus, telemetry, rate, count, first),
    ]
    try:
        for client in clients:
            await asyncio.to_thread(_line, client)
        begin = time.monotonic() + BEGIN_S
        start = f"{begin}\n".encode()
        for client in clients:
            if client.stdin is not None:
                client.stdin.write(start)
                client.stdin.flush()
        roots = [process.pid for process in running.processes]
        await asyncio.sleep(begin - time.monotonic())
        began, cpu_s = time.monotonic(), usage(roots).cpu_s
        received, sent = await asyncio.gather(*[asyncio.to_thread(_line, c) for c in clients])
        cores = (usage(roots).cpu_s - cpu_s) / (time.monotonic() - began)
    finally:
        for client in clients:
            client.kill()
            client.wait()
    return json.loads(received) | json.loads(sent) | {"cores": round(cores, 2)}


def median_runs(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of each rate the round with the median p50 (of an even number, the slower of the two).

    Example:
        >>> median_runs([{"1000": {"p50_ms": p50}} for p50 in (9.0, 30.0, 12.0)])
        {'1000': {'p50_ms': 12.0, 'lowest_p50_ms': 9.0, 'highest_p50_ms': 30.0, 'rounds': 3}}
    """
    found = {}
    for rate in rounds[0]:
        runs = sorted((run[rate] for run in rounds), key=_p50_ms)
        lowest, highest = runs[0]["p50_ms"], runs[-1]["p50_ms"]
        spread = {"lowest_p50_ms": lowest, "highest_p50_ms": highest, "rounds": len(runs)}
        found[rate] = runs[len(runs) // 2] | spread
    return found


def _p50_ms(run: dict[str, Any]) -> float:
    """Its p50; infinite where half of the events did not come."""
    return math.inf if run["p50_ms"] is None else float(run["p50_ms"])


def _client(script: str, *args: object) -> subprocess.Popen[bytes]:
    command = [python_of(CLIENTS), str(HERE / script), *map(str, args)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _line(client: subprocess.Popen[bytes]) -> bytes:
    line = client.stdout.readline() if client.stdout is not None else b""
    if not line:
        raise SystemExit("a client of the latency run ended")
    return line
