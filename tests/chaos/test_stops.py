"""How workers and their supervisor end: in order, by force, and what is left then."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from chaos.campaign import in_peace, under_load
from chaos.ledger import breaches, understand
from chaos.load import Load, make_load
from chaos.pipelines import BATCH_ROWS, Pipe
from chaos.sender import Sender
from chaos.workers import Workers

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(180)]

UP = [sys.executable, "-c", "from headrace.streams.cli.main import main; main()", "up"]
DEADLINE_S = 60.0


def new_pipe(folder: Path, bus: str, store: str, *, telemetry: str | None = None) -> Pipe:
    """A pipeline with a name that nobody used before."""
    return Pipe(folder, f"stop-{uuid.uuid4().hex[:8]}", bus, store, telemetry=telemetry)


def test_sigterm_loses_and_repeats_nothing(tmp_path, kafka_url, own_store) -> None:
    """Each stage told to end in the middle of a surge, twice: not one raw repeat."""
    load = make_load(11, 24_000)

    async def act(sender: Sender, workers: Workers) -> None:
        for name in ("enrich", "serve", "serve", "enrich"):
            await workers.ready()
            surge = asyncio.create_task(sender.send(4000))
            await asyncio.sleep(0.15)
            await workers.terminate(name)
            workers.start(name)
            await surge

    async def run() -> tuple[Pipe, Pipe]:
        pipe = new_pipe(tmp_path, kafka_url, own_store)
        await under_load(pipe, load, ("enrich", "serve"), act)
        calm = new_pipe(tmp_path, kafka_url, own_store, telemetry=pipe.topics.telemetry.name)
        await in_peace(calm)
        return pipe, calm

    pipe, calm = asyncio.run(run())
    found, expected = (understand(load, asyncio.run(p.dump())) for p in (pipe, calm))

    assert breaches(load, found, expected, kills={}, batch_rows=BATCH_ROWS) == []
    seen = (found.features, found.predictions, found.dead, found.late, found.summaries)
    assert [s.repeats for s in seen] == [0] * 5


@contextmanager
def up(pipe: Pipe, log: Path) -> Iterator[psutil.Process]:
    """`headrace up` on this pipeline; what it leaves running is ended, and told by name."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
    places = {
        "HEADRACE_BUS": pipe.endpoints.bus.url,
        "HEADRACE_STORE": pipe.endpoints.store.url,
    }
    with log.open("wb") as lines:
        process = subprocess.Popen(
            [*UP, str(pipe.file)], env={**own, **places}, stdout=lines, stderr=lines
        )
    started = psutil.Process(process.pid)
    known: list[psutil.Process] = []
    try:
        known = until(lambda: workers_of(started), 2, log)
        yield started
    finally:
        known += [child for child in children(started) if child not in known]
        process.kill()
        process.wait()
        for child in known:
            if child.is_running():
                child.kill()


def children(process: psutil.Process) -> list[psutil.Process]:
    """Processes it started; none when it is gone."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """Its workers."""
    return [c for c in children(process) if "headrace.streams.worker" in c.cmdline()]


def until(look: Callable[[], list[psutil.Process]], count: int, log: Path) -> list[psutil.Process]:
    """Wait until there are so many."""
    give_up = time.monotonic() + DEADLINE_S
    while len(found := look()) != count:
        assert time.monotonic() < give_up, log.read_text()[-2000:]
        time.sleep(0.02)
    return found


def until_said(log: Path, text: str, times: int = 1) -> None:
    """Wait for words in the command's output."""
    give_up = time.monotonic() + DEADLINE_S
    while log.read_text().count(text) < times:
        assert time.monotonic() < give_up, log.read_text()[-2000:]
        time.sleep(0.02)


def test_a_killed_supervisor_leaves_no_worker(tmp_path, kafka_url, own_store) -> None:
    """SIGKILL of `headrace up` under load: its workers finish, end by themselves, and are right."""
    load = make_load(12, 6000)
    pipe = new_pipe(tmp_path, kafka_url, own_store)
    log = tmp_path / "up.log"
    with up(pipe, log) as command:
        until_said(log, "ready:")
        asyncio.run(send(pipe, load, 3000))
        workers = workers_of(command)
        assert len(workers) == 2

        command.send_signal(signal.SIGKILL)
        _, left = psutil.wait_procs(workers, timeout=15)
        assert left == []

    asyncio.run(resume(pipe, load, 3000))
    assert_as_promised(tmp_path, pipe, load)


def test_up_starts_a_crashed_worker_again(tmp_path, kafka_url, own_store) -> None:
    """Each worker of `headrace up` killed under load: started again, nothing lost."""
    load = make_load(13, 12_000)
    pipe = new_pipe(tmp_path, kafka_url, own_store)
    log = tmp_path / "up.log"
    with up(pipe, log) as command:
        until_said(log, "ready:")
        for number, stage in enumerate(("enrich", "serve")):
            asyncio.run(send(pipe, load, 4000, skip=4000 * number))
            victim = next(w for w in workers_of(command) if stage in w.cmdline())
            victim.send_signal(signal.SIGKILL)
            until_said(log, f"worker {stage} ended with code -9 and is started again")
            until(lambda: workers_of(command), 2, log)
        asyncio.run(send(pipe, load, len(load.rows), skip=8000))
        asyncio.run(pipe.drained())
        command.send_signal(signal.SIGTERM)
        assert command.wait(timeout=30) in (0, None), log.read_text()[-2000:]

    assert_as_promised(tmp_path, pipe, load, kills={"enrich": 1, "serve": 1})


async def send(pipe: Pipe, load: Load, count: int, *, skip: int = 0) -> None:
    """Send a part of the load."""
    part = Load(load.rows[skip : skip + count])
    async with Sender(pipe.options, pipe.topics.telemetry.name, part) as sender:
        await sender.send(count)


async def resume(pipe: Pipe, load: Load, skip: int) -> None:
    """Send the rest to new workers and let them finish."""

    async def act(sender: Sender, workers: Workers) -> None:
        await workers.ready()

    await under_load(pipe, Load(load.rows[skip:]), ("enrich", "serve"), act)


def assert_as_promised(
    folder: Path, pipe: Pipe, load: Load, kills: dict[str, int] | None = None
) -> None:
    """No breach against a fault-free run over the same log."""
    calm = new_pipe(folder, *urls(pipe), telemetry=pipe.topics.telemetry.name)
    asyncio.run(in_peace(calm))
    found, expected = (understand(load, asyncio.run(p.dump())) for p in (pipe, calm))
    assert breaches(load, found, expected, kills=kills or {}, batch_rows=BATCH_ROWS) == []


def urls(pipe: Pipe) -> tuple[str, str]:
    """Bus and store of a pipeline."""
    return pipe.endpoints.bus.url, pipe.endpoints.store.url
