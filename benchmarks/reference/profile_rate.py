"""Both stages at a rate that does not wait for anybody: what an event costs in small batches."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from environments import CLIENTS, prepare, python_of
from job import DEVICES, events
from profile_cost import unique
from profile_sampler import Sampler
from profile_stage import (
    LOOK_S,
    PATIENCE_S,
    StageProcess,
    StageRun,
    make_topics,
    sampled,
)
from profile_threads import cpu_by_thread, spent
from sides import Where
from telemetry_log import create, delete, send

from headrace.schemas.topics import topics_of
from headrace.streams.workers.jobs import STAGES

SENDER = Path(__file__).parent / "sender.py"
BEGIN_S = 0.5


async def run_at_rate(
    bus: str, store: str, rate: int, seconds: float, *, samples: Path, hz: int
) -> dict[str, tuple[StageRun, StageRun]]:
    """Two stretches at one rate without a restart between them.

    Args:
        bus: host:port.
        store: URL.
        rate: Events per second.
        seconds: Length of a stretch.
        samples: Folder for the collapsed stacks.
        hz: Samples per second.

    Returns:
        Stage to its run without a profiler and its run with one.
    """
    prepare({CLIENTS})
    telemetry = unique("profile-rate")
    await create(bus, telemetry)
    with tempfile.TemporaryDirectory() as folder:
        where = Where(bus, store, telemetry, telemetry, Path(folder))
        pipeline = await make_topics(where)
        processes = [StageProcess(stage, where) for stage in STAGES]
        try:
            for process in processes:
                process.start()
            await send(bus, telemetry, events(DEVICES))
            await _through(processes, DEVICES)
            plain = await _stretch(bus, telemetry, processes, rate, seconds, DEVICES)
            looked = await _sampled_stretch(
                bus, telemetry, processes, rate, seconds, samples=samples, hz=hz
            )
        finally:
            for process in processes:
                process.stop()
        await delete(bus, telemetry, *(t.name for t in topics_of(pipeline).all() if t.ours))
    return {stage: (plain[stage], looked[stage]) for stage in STAGES}


async def _sampled_stretch(
    bus: str,
    telemetry: str,
    processes: Sequence[StageProcess],
    rate: int,
    seconds: float,
    *,
    samples: Path,
    hz: int,
) -> dict[str, StageRun]:
    """The second stretch."""
    first = DEVICES + round(rate * seconds)
    samplers = {
        p.stage: Sampler(p.pid, samples / f"profile-rate-{p.stage}.collapsed", hz=hz)
        for p in processes
    }
    try:
        for sampler in samplers.values():
            await sampler.start()
        found = await _stretch(bus, telemetry, processes, rate, seconds, first)
        return {stage: sampled(run, samplers[stage]) for stage, run in found.items()}
    finally:
        for sampler in samplers.values():
            sampler.kill()


async def _stretch(
    bus: str,
    telemetry: str,
    processes: Sequence[StageProcess],
    rate: int,
    seconds: float,
    first: int,
) -> dict[str, StageRun]:
    """Send at the rate; what each stage used until it was through."""
    count = round(rate * seconds)
    sender = _sender(bus, telemetry, rate, count, first)
    try:
        await _line(sender)
        before = {p.stage: cpu_by_thread(p.pid) for p in processes}
        began = time.monotonic() + BEGIN_S
        if sender.stdin is not None:
            sender.stdin.write(f"{began}\n".encode())
            sender.stdin.flush()
        await _line(sender)
        took = time.monotonic() - began
        await _through(processes, first + count)
    finally:
        sender.kill()
        sender.wait()
    return {
        p.stage: StageRun(p.stage, count, took, spent(before[p.stage], cpu_by_thread(p.pid)))
        for p in processes
    }


async def _through(processes: Sequence[StageProcess], count: int) -> None:
    """Return when every stage is through so many events.

    Raises:
        SystemExit: one is not, after `PATIENCE_S`.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not all(process.done(count) for process in processes):
        if time.monotonic() > deadline:
            raise SystemExit(f"the stages are not through {count} events after {PATIENCE_S:g} s")
        await asyncio.sleep(LOOK_S)


def _sender(*arguments: object) -> subprocess.Popen[bytes]:
    command = [python_of(CLIENTS), str(SENDER), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


async def _line(sender: subprocess.Popen[bytes]) -> None:
    """Wait for the sender's next line."""
    if sender.stdout is None or not await asyncio.to_thread(sender.stdout.readline):
        raise SystemExit("the sender ended before it was through; its error is above")
