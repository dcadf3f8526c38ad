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
from chaos.pipelines import committed, make_target
from fakes.drill_pipeline import BATCH_ROWS

from headrace.streams.drill.campaign import drained, in_peace, running, under_load
from headrace.streams.drill.ledger import understand
from headrace.streams.drill.load import Fleet
from headrace.streams.drill.sender import Sender
from headrace.streams.drill.target import Target
from headrace.streams.drill.verdict import breaches
from headrace.streams.drill.workers import Workers

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(180)]

UP = [sys.executable, "-c", "from headrace.streams.cli.main import main; main()", "up"]
DEADLINE_S = 60.0


def new_target(
    folder: Path,
    bus: str,
    store: str,
    *,
    telemetry: str | None = None,
    mode: str = "at-least-once",
) -> Target:
    """A pipeline with a name that nobody used before."""
    name = f"stop-{uuid.uuid4().hex[:8]}"
    return make_target(folder, name, bus, store, telemetry=telemetry, mode=mode)


@pytest.mark.parametrize("mode", ["at-least-once", "exactly-once"])
def test_sigterm_loses_and_repeats_nothing(mode, tmp_path, kafka_url, own_store) -> None:
    """Each stage told to end in the middle of a surge, twice: not one raw repeat."""
    target = new_target(tmp_path, kafka_url, own_store, mode=mode)
    calm = new_target(tmp_path, kafka_url, own_store, telemetry=target.topics.telemetry.name)
    fleet = Fleet(target.pipeline, 11)

    async def act(sender: Sender, workers: Workers) -> None:
        for name in ("enrich", "serve", "serve", "enrich"):
            await workers.ready()
            surge = asyncio.create_task(sender.send(4000))
            await asyncio.sleep(0.15)
            await workers.terminate(name)
            workers.start(name)
            await surge

    async def run() -> None:
        await under_load(target, fleet, ("enrich", "serve"), act)
        await in_peace(calm)

    asyncio.run(run())
    found, expected = (understand(fleet.load, asyncio.run(t.dump())) for t in (target, calm))

    wrong = breaches(fleet.load, found, expected, repeats={}, batch_rows=BATCH_ROWS)
    assert wrong == []
    seen = (found.features, found.predictions, found.dead, found.late, found.summaries)
    assert [s.repeats for s in seen] == [0] * 5


@contextmanager
def up(pipe: Target, log: Path) -> Iterator[psutil.Process]:
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
    return [c for c in children(process) if "headrace.streams.workers.worker" in c.cmdline()]


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
    target = new_target(tmp_path, kafka_url, own_store)
    fleet, log = Fleet(target.pipeline, 12), tmp_path / "up.log"
    with up(target, log) as command:
        until_said(log, "ready:")
        asyncio.run(send(target, fleet, 3000))
        workers = workers_of(command)
        assert len(workers) == 2

        command.send_signal(signal.SIGKILL)
        _, left = psutil.wait_procs(workers, timeout=DEADLINE_S)
        assert left == []

    asyncio.run(resume(target, fleet, 3000))
    assert_as_promised(tmp_path, target, fleet)


def test_up_starts_a_crashed_worker_again(tmp_path, kafka_url, own_store) -> None:
    """Each worker of `headrace up` killed under load: started again, nothing lost."""
    target = new_target(tmp_path, kafka_url, own_store)
    fleet, log = Fleet(target.pipeline, 13), tmp_path / "up.log"
    with up(target, log) as command:
        until_said(log, "ready:")
        for stage in ("enrich", "serve"):
            asyncio.run(send(target, fleet, 4000))
            victim = next(w for w in workers_of(command) if stage in w.cmdline())
            victim.send_signal(signal.SIGKILL)
            until_said(log, f"worker {stage} ended with code -9 and is started again")
            until(lambda: workers_of(command), 2, log)
        asyncio.run(send(target, fleet, 4000))
        asyncio.run(committed(target))
        command.send_signal(signal.SIGTERM)
        assert command.wait(timeout=DEADLINE_S) in (0, None), log.read_text()[-2000:]

    assert_as_promised(tmp_path, target, fleet, repeats={"enrich": 1, "serve": 1})


async def send(target: Target, fleet: Fleet, count: int) -> None:
    """Send the next part of the load."""
    async with target.sender(fleet) as sender:
        await sender.send(count)


async def resume(target: Target, fleet: Fleet, count: int) -> None:
    """Send more, then start new workers and let them finish."""
    await send(target, fleet, count)
    async with running(target, ("enrich", "serve")) as workers:
        await drained(target, workers)


def assert_as_promised(
    folder: Path, target: Target, fleet: Fleet, repeats: dict[str, int] | None = None
) -> None:
    """No breach against a fault-free run over the same log."""
    urls = target.endpoints.bus.url, target.endpoints.store.url
    calm = new_target(folder, *urls, telemetry=target.topics.telemetry.name)
    asyncio.run(in_peace(calm))
    found, expected = (understand(fleet.load, asyncio.run(t.dump())) for t in (target, calm))
    wrong = breaches(fleet.load, found, expected, repeats=repeats or {}, batch_rows=BATCH_ROWS)
    assert wrong == []
