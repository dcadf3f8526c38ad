"""`headrace up` with health endpoints: what a probe sees when a worker or the store goes away."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from integration.health.probing import Site
from integration.setup.command import Setup

from headrace.streams.local.embedded_store import EmbeddedStore

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="its processes are found in /proc"),
]

NOTICED_S = 10.0
"""What the endpoints promise: a hang or a lost dependency shows within this time."""


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    """A pipeline on embedded services, and endpoints on a free port."""
    made = Setup.of_hosts(tmp_path)
    made.environ["HEADRACE_HEALTH"] = "127.0.0.1:0"
    return made


@pytest.fixture
def up(setup: Setup) -> Iterator[Callable[[], Site]]:
    """Starts the command and reads where its endpoints are; ends it in order, nothing left."""
    commands = []

    def start() -> Site:
        command = setup.start("up", str(setup.file))
        commands.append(command)
        assert command.process.stdout is not None
        line = command.process.stdout.readline()
        assert line.startswith("health: "), command.end()
        return Site(setup, line.split()[1].removesuffix("/healthz"))

    yield start
    for command in commands:
        with command:
            command.process.send_signal(signal.SIGTERM)
            said = command.end()
            assert said.code == 0, said
    assert setup.running() == {}


def test_ready_and_a_hung_worker(up: Callable[[], Site]) -> None:
    """Unready with reasons at first, then ready; a stopped SERVE is named within ten seconds."""
    site = up()
    status, body = site.get("/readyz")
    assert status == 503
    assert {"bus: not asked yet", "store: not asked yet"} <= set(body.splitlines())
    site.until_ready()

    victim = site.worker("serve")
    os.kill(victim, signal.SIGSTOP)
    try:
        body = site.until("/livez", lambda status, _: status == 503, NOTICED_S)
        assert body.startswith("serve is silent: no status line for ")
        assert "serve is silent" in site.get("/readyz")[1]
        assert "enrich" not in body
    finally:
        os.kill(victim, signal.SIGCONT)
    site.until_ready()


def test_a_killed_worker_is_unready_until_it_is_back(up: Callable[[], Site]) -> None:
    """Never reported dead: it is started again, and the facts count it."""
    site = up()
    site.until_ready()
    os.kill(site.worker("enrich"), signal.SIGKILL)

    body = site.until("/readyz", lambda status, _: status == 503, NOTICED_S)
    assert "enrich" in body
    assert site.get("/livez")[0] == 200
    site.until_ready()
    facts = json.loads(site.get("/healthz")[1])
    assert {w["worker"]: w["restarts"] for w in facts["workers"]} == {"enrich": 1, "serve": 0}


def test_a_lost_store_is_named_until_it_is_back(setup: Setup, up: Callable[[], Site]) -> None:
    """The store ends and starts again: unready by its name, alive all the time, then ready."""
    store = EmbeddedStore(setup.root / "data", folder=setup.root / "store")
    asyncio.run(store.start())
    try:
        setup.environ["HEADRACE_STORE"] = store.url
        site = up()
        site.until_ready()
        asyncio.run(store.stop())
        site.until("/readyz", lambda _, body: body.startswith("store: "), NOTICED_S)
        assert site.get("/livez") == (200, "ok\n")
        facts = json.loads(site.get("/healthz")[1])
        assert (facts["live"], facts["ready"], facts["bus"]) == (True, False, "answers")

        asyncio.run(store.start())
        assert store.url == setup.environ["HEADRACE_STORE"]
        site.until_ready()
    finally:
        asyncio.run(store.stop())
