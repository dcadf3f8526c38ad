"""Chromium, and a pipeline with one device that stands out."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from integration.setup.command import Setup

from headrace.streams.client.deadletter_tally import clock

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
CALM, UPSET = 80, 25
DEAD = 3
KINDS = ("core", "disk")
ODD = "press <b>7</b>"
"""The one that stands out; its name would be markup where a page took it for that."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser extra is missing")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt install chromium")
    with playwright.sync_playwright() as driver:
        # Its own sandbox needs rights that a container's root has not.
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the console of a running `up`; eight devices, one of which was upset; three dead."""
    setup = Setup.of_hosts(tmp_path_factory.mktemp("console"))
    with setup.file.open("a", encoding="utf-8") as file:
        file.write('\n[observe]\nclass_by = "kind"\n')
    with setup.start("up", str(setup.file), "--from", "earliest") as command:
        assert command.process.stdout is not None
        lines = iter(command.process.stdout.readline, "")
        exports = next(line for line in lines if line.startswith("export "))
        setup.environ |= dict(pair.split("=", 1) for pair in exports.split()[1:])
        url = next(line for line in lines if line.startswith("console: ")).split()[1]
        events = setup.root / "events.ndjson"
        sent = [*told(), *dead()]
        events.write_text("".join(json.dumps(event) + "\n" for event in sent), "utf-8")
        command.await_line("ready: ")
        said = setup.run("produce", "file", str(events), "--pipeline", str(setup.file))
        assert said.code == 0, said
        yield url
        command.process.send_signal(signal.SIGTERM)
        assert command.end().code == 0
    assert setup.running() == {}


def told() -> Iterator[dict[str, object]]:
    """Events of eight calm devices of two kinds, the last of them suddenly at full load."""
    began_ms = round(time.time() * 1000) - (CALM + UPSET) * 100  # noqa: TID251 - events of now
    devices = [*(f"press-{number}" for number in range(7)), ODD]
    for tick in range(CALM + UPSET):
        for number, device in enumerate(devices):
            upset = device == ODD and tick >= CALM
            load = 0.97 if upset else 0.1 + 0.01 * ((tick * 7 + number) % 5)
            yield {
                "id": f"{number}-{tick}", "device_id": device, "seq": tick,
                "time": clock(began_ms + tick * 100),
                "metrics": {
                    "load": load, "ops_per_s": 100.0 + tick % 3, "bytes_per_s": 1000.0 + tick % 7,
                    "pressure": 0.5 if upset else 0.0, "memory": 0.05,
                },
                "kind": KINDS[number % 2],
            }  # fmt: skip


def dead() -> Iterator[dict[str, object]]:
    """Events that can never be served: their load is a word."""
    now = clock(round(time.time() * 1000))  # noqa: TID251 - events of now
    for number in range(DEAD):
        yield {"id": f"dead-{number}", "device_id": "press-0", "time": now,
               "metrics": {"load": "much"}, "kind": "core"}  # fmt: skip


@pytest.fixture
def failures() -> list[str]:
    """What a page complained about."""
    return []


@pytest.fixture
def page(browser: Any, console: str, failures: list[str]) -> Iterator[Any]:
    """The console as a visitor finds it; a script that fails or is refused fails the test."""
    page = browser.new_page()
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("console", lambda said: failures.append(said.text) if said.type == "error" else None)
    page.set_default_timeout(10_000)
    page.goto(console)
    page.get_by_role("button", name=ODD).wait_for()
    yield page
    page.close()
    assert failures == []
