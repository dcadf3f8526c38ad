"""A store that is paused, killed, read-only or full: the stage waits, says so once, and goes on."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from integration.deadletter.plant import GOOD, Plant
from integration.feature_store import servers
from msgspec.structs import replace

from headrace.streams.drill.workers import Workers

pytestmark = [pytest.mark.slow, pytest.mark.chaos]

AWAY_S = 4.0
EVENTS = 400


class Server:
    """A store of one test on a port of its own.

    Args:
        folder: Where it runs.
    """

    def __init__(self, folder: Path) -> None:
        self.port = servers.free_port()
        self._folder, self._stack = folder, ExitStack()
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        """Run it, empty."""
        listening = servers.server(self._folder, "--port", str(self.port), ready=self.port)
        self.process = self._stack.enter_context(listening)

    def ask(self, *words: str) -> None:
        """One command that must succeed."""
        assert servers.resp(self.port, *words).startswith("+OK"), words

    def close(self) -> None:
        """End it."""
        self._stack.close()


Fault = tuple[Callable[[Server], None], Callable[[Server], None]]

FAULTS: dict[str, Fault] = {
    "paused": (
        lambda server: server.process.send_signal(signal.SIGSTOP),
        lambda server: server.process.send_signal(signal.SIGCONT),
    ),
    "killed": (lambda server: server.process.kill(), lambda server: server.start()),
    "read-only": (
        lambda server: server.ask("REPLICAOF", "127.0.0.1", "1"),
        lambda server: server.ask("REPLICAOF", "NO", "ONE"),
    ),
    "out of memory": (
        lambda server: server.ask("CONFIG", "SET", "maxmemory", "1"),
        lambda server: server.ask("CONFIG", "SET", "maxmemory", "0"),
    ),
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A running store."""
    made = Server(tmp_path)
    made.start()
    yield made
    made.close()


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_stage_waits_and_goes_on_by_itself(
    fault: str, tmp_path: Path, tansu_url: str, server: Server, unique, capsys
) -> None:
    """Everything is done when the store is back, with one line of its going and one of its return.

    While it is away nothing is committed that is not stored, and the worker lives.
    """
    plant = Plant(
        tmp_path, tansu_url, f"redis://127.0.0.1:{server.port}", unique("away"), embedded=True
    )
    impatient = replace(plant.endpoints.store, timeout_s=1.0)
    plant.for_workers = replace(plant.endpoints, store=impatient)
    await plant.prepare()
    strike, repair = FAULTS[fault]
    workers = Workers(plant)
    try:
        workers.start("enrich")
        await workers.ready()
        await plant.send([GOOD] * EVENTS)
        await plant.drained()
        strike(server)
        await plant.send([GOOD] * EVENTS, first=EVENTS)
        await asyncio.sleep(AWAY_S)
        workers.look()
        before = (await plant.committed())[0]
        repair(server)
        began = time.monotonic()
        await plant.drained()
        took_s = time.monotonic() - began
        await workers.stop()
    finally:
        workers.end()
    with capsys.disabled():
        print(f"\nstore {fault} for {AWAY_S:g} s: all {EVENTS} events done {took_s:.1f} s after")
    said = _lines(tmp_path)

    assert before == EVENTS
    assert set(await plant.featured()) == {f"e{n}" for n in range(2 * EVENTS)}
    assert workers.crashes == {}
    assert [
        line.split("the store is ")[1].split()[0] for line in said if "the store is " in line
    ] == [
        "away,",
        "back",
    ]
    assert [line for line in said if "did not answer" in line or "retried" in line] == [
        line for line in said if "the store is away" in line
    ]


def _lines(folder: Path) -> list[str]:
    """What the workers logged."""
    return [line for log in folder.glob("*.log") for line in log.read_text().splitlines()]
