"""A worker that is told to start again: by its input's end, or by force."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from headrace.schemas.errors import FatalError
from headrace.schemas.settings import BusSettings, StoreSettings
from headrace.streams.workers import nursery, spawning
from headrace.streams.workers import supervisor as supervisor_module
from headrace.streams.workers.jobs import Endpoints
from headrace.streams.workers.supervisor import Supervisor, Worker

pytestmark = [pytest.mark.integration, pytest.mark.slow]

OBEDIENT = """
import sys
sys.stdin.readline()
print('{"stage": "enrich", "ready": true}', flush=True)
sys.stdin.read()
"""
DEAF = OBEDIENT.replace("sys.stdin.read()", "import time; time.sleep(600)")
LONG = OBEDIENT.replace("true}", "true, \"topic\": \"' + 'x' * 2_000_000 + '\"}")


async def until(found: Callable[[], bool]) -> None:
    """Poll until `found()`."""
    async with asyncio.timeout(20):
        while not found():
            await asyncio.sleep(0.02)


class Scene:
    """One worker that runs a program of a few lines."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.supervisor = Supervisor(file, ["enrich"])
        [self.worker] = self.supervisor.workers

    async def run(self, program: str) -> Worker:
        """Start it and wait for its first status line."""
        self.file.write_text(program, "utf-8")
        self.worker.command = [sys.executable, "-u", str(self.file), "enrich"]
        self.supervisor.start()
        self.supervisor.connect(Endpoints(bus=BusSettings(), store=StoreSettings(), embedded=True))
        await self.supervisor.ready()
        return self.worker


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch) -> AsyncIterator[Scene]:
    monkeypatch.setattr(supervisor_module, "KILL_AFTER_S", 0.5)
    monkeypatch.setattr(supervisor_module, "FIRST_PAUSE_S", 0.05)
    made = Scene(tmp_path / "worker.py")
    yield made
    await made.supervisor.stop()


@pytest.mark.parametrize("program", [OBEDIENT, DEAF], ids=["obedient", "deaf"])
async def test_it_lives_again(scene: Scene, caplog, program: str) -> None:
    """Ended in order or by force, it is started again, with the reason in one line."""
    worker = await scene.run(program)
    first = worker.process
    with caplog.at_level(logging.ERROR, "headrace.supervisor"):
        scene.supervisor.restart(worker, "enrich is stuck: t[0]@1")
        scene.supervisor.restart(worker, "a second reason")
        await until(lambda: worker.restarts == 1 and worker.status is not None)

    code = 0 if program is OBEDIENT else -signal.SIGKILL
    assert first is not None
    assert first.returncode == code
    [record] = caplog.records
    assert record.getMessage() == (
        f"worker enrich ended with code {code} and is started again in 0.1 s: "
        f"enrich is stuck: t[0]@1"
    )
    assert worker.ending is None
    assert worker.running


async def test_stop_wins_over_restart(scene: Scene) -> None:
    """Told to stop while a worker is being started again: nothing is left."""
    worker = await scene.run(DEAF)
    scene.supervisor.restart(worker, "enrich is stuck: t[0]@1")
    await scene.supervisor.stop()

    assert not worker.running
    assert worker.restarts == 0


@pytest.mark.parametrize("turns", [1, 2, 4])
async def test_stop_while_a_worker_is_being_started(scene: Scene, monkeypatch, turns: int) -> None:
    """In whichever turn of the loop: its input is closed, and nobody waits for the kill."""
    monkeypatch.setattr(supervisor_module, "KILL_AFTER_S", 60.0)
    scene.file.write_text(OBEDIENT, "utf-8")
    scene.worker.command = [sys.executable, "-u", str(scene.file), "enrich"]
    scene.supervisor.start()
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await scene.supervisor.stop()

    assert scene.worker.process is not None
    assert scene.worker.process.returncode == 0


async def test_stop_between_a_crash_and_the_next_start(
    scene: Scene, monkeypatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The pause is not waited out."""
    monkeypatch.setattr(supervisor_module, "FIRST_PAUSE_S", 600.0)
    scene.file.write_text("raise SystemExit(1)", "utf-8")
    scene.worker.command = [sys.executable, str(scene.file), "enrich"]
    with caplog.at_level(logging.ERROR, "headrace.supervisor"):
        scene.supervisor.start()
        await until(lambda: bool(caplog.records))
    async with asyncio.timeout(20):
        await scene.supervisor.stop()

    assert scene.worker.restarts == 0


async def test_stop_while_nothing_can_be_forked(scene: Scene, monkeypatch) -> None:
    """The process that forks workers hangs: it is killed, and not waited for."""
    hangs = [sys.executable, "-c", "import time; time.sleep(600)"]
    monkeypatch.setattr(nursery, "command", lambda channel: hangs)
    monkeypatch.setattr(spawning, "ENDS_S", 0.1)
    monkeypatch.setattr(supervisor_module, "KILLED_S", 0.1)
    scene.supervisor.start()
    await until(lambda: scene.worker.process is not None)
    async with asyncio.timeout(20):
        await scene.supervisor.stop()

    assert not scene.worker.running


async def test_a_status_line_of_thousands_of_partitions_is_read(scene: Scene) -> None:
    """Longer than a pipe holds, and than a line may be by default."""
    worker = await scene.run(LONG)

    assert worker.status is not None
    assert len(worker.status.topic) == 2_000_000


async def test_a_machine_without_room_for_a_worker_is_asked_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No memory, no file descriptor: it starts once there is."""
    honest, asked = supervisor_module.spawned, list[int]()

    async def crowded(*args, **more):
        asked.append(1)
        if len(asked) < 3:
            raise OSError(errno.EMFILE, "Too many open files")
        return await honest(*args, **more)

    monkeypatch.setattr(supervisor_module, "spawned", crowded)
    with caplog.at_level(logging.ERROR, "headrace.supervisor"):
        worker = await scene.run(OBEDIENT)
    assert worker.restarts == 2
    assert "it could not be started (Too many open files)" in caplog.text


async def test_a_worker_that_nobody_looks_after_ends_everything(scene: Scene) -> None:
    """Whoever is told of status lines raises: said, and not a worker that is never restarted."""

    def wrong(*_: object) -> None:
        raise KeyError("stage")

    scene.supervisor.told.append(wrong)
    await scene.run(OBEDIENT)
    with pytest.raises(FatalError, match="worker enrich: KeyError while looking after it"):
        await scene.supervisor.failed()
