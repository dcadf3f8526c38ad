"""One stage in one process: ``python -m headrace.streams.workers.worker STAGE PIPELINE.toml``.

Reads where the services are from standard input, writes its status to standard output, and ends
when standard input is closed, so it outlives no supervisor.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import resource
import signal
import sys
from pathlib import Path

import click
import msgspec

from headrace.schemas.errors import FatalError, HeadraceError
from headrace.schemas.pipeline import load_pipeline
from headrace.streams.freed_memory import give_back
from headrace.streams.logs import log_to_stderr
from headrace.streams.pipeline import plan_stage, run_stage
from headrace.streams.transport.stage import load_faust
from headrace.streams.workers.jobs import ALL_STAGES, Endpoints, Status
from headrace.streams.workers.running_stage import RunningStage, StagePlan
from headrace.streams.workers.supervisor import EXIT_FATAL

STATUS_EVERY_S = 0.5
SEEN_EVERY = 4
"""One in so many status lines tells what was seen, every two seconds."""

UNREADY_EVERY_S = 0.05
"""Between two status lines before the first batch: the pipeline's start-up waits for "ready"."""

COLLECT_EVERY_S = 5.0
WHOLE_EVERY = 120
"""One in so many collections, every ten minutes, looks at everything."""

GIVE_BACK_EVERY = 12
"""After one in so many, every minute, freed memory goes back to the system."""


@click.command()
@click.argument("stage", type=click.Choice(ALL_STAGES))
@click.argument("pipeline", type=click.Path(path_type=Path))
def main(stage: str, pipeline: Path) -> None:
    """Run one stage until standard input is closed."""
    log_to_stderr()
    # A terminal's Ctrl-C is the supervisor's to handle; it closes our standard input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        plan = plan_stage(stage, load_pipeline(pipeline), pipeline.parent)
        # While the services start: 50 ms that the first prediction would wait for later.
        load_faust()
        _put_aside()
        if line := _first_line():
            asyncio.run(_serve(plan, msgspec.json.decode(line, type=Endpoints)))
    except HeadraceError as error:
        _tell(Status(stage=stage, ready=False, error=str(error)))
        raise SystemExit(EXIT_FATAL if isinstance(error, FatalError) else 1) from None


def _first_line() -> bytes:
    """Where to go; no byte of what follows is taken, which the event loop waits for."""
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as unbuffered:
        return unbuffered.readline()


async def _serve(plan: StagePlan, endpoints: Endpoints) -> None:
    running = RunningStage(plan)
    loop = asyncio.get_running_loop()
    stop, begin = asyncio.Event(), asyncio.Event()
    if not endpoints.hold:
        begin.set()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    helpers = [
        asyncio.create_task(_watch_supervisor(begin, stop)),
        asyncio.create_task(_report(running)),
        asyncio.create_task(_collect()),
    ]
    try:
        await run_stage(running, endpoints, stop, begin)
    finally:
        for helper in helpers:
            helper.cancel()
        _write(running, seen=True)


async def _watch_supervisor(begin: asyncio.Event, stop: asyncio.Event) -> None:
    """Begin at the next line; stop when standard input ends: we were asked to, or are alone."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
    )
    if await reader.readline():
        begin.set()
        await reader.read()
    stop.set()


async def _report(running: RunningStage) -> None:
    for turn in itertools.count(1):
        _write(running, seen=running.ready and turn % SEEN_EVERY == 0)
        await asyncio.sleep(STATUS_EVERY_S if running.ready else UNREADY_EVERY_S)


async def _collect() -> None:
    """Keep the cyclic collector out of batches: run it between them, on a clock.

    Batches make no cycles; asyncio and the clients make few. Measured on the reference job: the
    automatic collector costs a third of the throughput; and what has lived for a while, the state
    of the stage foremost, takes 20 ms to look through again: it is put aside.
    """
    gc.disable()
    for turn in itertools.count(1):
        await asyncio.sleep(COLLECT_EVERY_S)
        if turn % WHOLE_EVERY == 0:
            gc.unfreeze()
        _put_aside()
        if turn % GIVE_BACK_EVERY == 0:
            give_back()


def _put_aside() -> None:
    """Collect, and leave what lives on out of the next collections."""
    gc.collect()
    gc.freeze()


def _write(running: RunningStage, *, seen: bool) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    status = _status(running, usage, seen=seen)
    if running.beside is not None:
        beside = _status(running.beside, usage, seen=False)
        status = msgspec.structs.replace(status, beside=beside)
    _tell(status)


def _status(running: RunningStage, usage: resource.struct_rusage, *, seen: bool) -> Status:
    """One stage now; time and memory are the process's."""
    counters = running.counters
    calls, rows, cached = running.served()
    model, model_cpu_s, saved_cpu_s = running.model()
    held, held_limit = running.held()
    return Status(
        stage=running.plan.stage,
        ready=running.ready,
        events=dict(counters.events),
        batches=counters.batches,
        busy_s=counters.busy_s,
        rewrites=counters.rewrites,
        retries=dict(counters.retries),
        expired=counters.expired,
        replayed=counters.replayed,
        lag=sum(running.lag().values()),
        raw_bytes=counters.raw_bytes,
        upstream_bytes=counters.upstream_bytes,
        rss_mb=_rss_mb(usage.ru_maxrss),
        cpu_s=usage.ru_utime + usage.ru_stime,
        held_bytes=held,
        held_limit_bytes=held_limit,
        state=running.state(),
        cache=running.cache_share(),
        calls=calls,
        rows=rows,
        cached=cached,
        model=model,
        model_cpu_s=model_cpu_s,
        saved_cpu_s=saved_cpu_s,
        topic=running.plan.source.name,
        partitions=running.partitions(),
        seen=running.seen() if seen else None,
    )


def _tell(status: Status) -> None:
    try:
        os.write(sys.stdout.fileno(), msgspec.json.encode(status) + b"\n")
    except BrokenPipeError:
        return


def _rss_mb(peak: int) -> float:
    """Resident memory now; where the system does not tell, the peak."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return pages * resource.getpagesize() / (1 << 20)


if __name__ == "__main__":
    main()
