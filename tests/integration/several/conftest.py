"""Two pipelines of different domains under one `headrace up`, on each bus in turn."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fakes.examples import EXAMPLES, simulated, write_events
from integration.health.probing import Site
from integration.setup.command import Said, Setup, Started

LEFT_S = 20.0
"""How long workers may take to end whose supervisor was killed, as after a failed test."""

SIZES = {"press": {"count": 4, "minutes": 1.0}, "shops": {"count": 2, "minutes": 3.0}}


@dataclass
class Pair:
    """Both pipelines' files, and the command that runs them.

    Attributes:
        setup: Folder and settings.
        names: Each pipeline's name on the bus, by example.
        sizes: How many events each example's telemetry has.
    """

    setup: Setup
    names: dict[str, str]
    sizes: dict[str, int] = field(default_factory=dict)
    command: Started | None = None

    def file(self, example: str) -> Path:
        """A pipeline file."""
        return self.setup.folder / example / "pipeline.toml"

    def edit(self, example: str, old: str, new: str) -> None:
        """Replace a text of a pipeline file, which is there."""
        text = self.file(example).read_text("utf-8")
        assert old in text
        self.file(example).write_text(text.replace(old, new, 1), "utf-8")

    def up(self) -> Site:
        """Start both."""
        self.command = self.setup.start("up", *(str(self.file(name)) for name in self.names))
        assert self.command.process.stdout is not None
        health = self.command.process.stdout.readline()
        export = self.command.process.stdout.readline()
        assert health.startswith("health: "), self.command.end()
        assert export.startswith("export "), self.command.end()
        # What a user pastes into the second terminal.
        self.setup.environ |= dict(word.split("=", 1) for word in export.split()[1:])
        return Site(self.setup, health.split()[1].removesuffix("/healthz"))

    def end(self) -> Said:
        """Tell the command to end, and wait for it."""
        assert self.command is not None
        self.command.process.send_signal(signal.SIGTERM)
        return self.command.end()

    def send(self, example: str) -> None:
        """The example's telemetry, whole."""
        events = self.setup.folder / f"{example}.ndjson"
        log = simulated(example, **SIZES[example])
        write_events(events, log)
        self.sizes[example] = len(log)
        said = self.setup.run("produce", "file", str(events), "--pipeline", str(self.file(example)))
        assert (said.code, said.err) == (0, "")

    def dead(self, example: str) -> int:
        """How many dead letters a pipeline has."""
        said = self.setup.run("deadletter", "list", str(self.file(example)), "--json")
        assert said.code == 0, said
        return int(json.loads(said.out.splitlines()[-1])["count"])

    def predictions(self, example: str) -> list[dict]:
        """As many predictions as events were sent, from the topic's start."""
        words = ["--from", "earliest", "--json", "--count", str(self.sizes[example])]
        said = self.setup.run("consume", str(self.file(example)), *words)
        assert said.code == 0, said
        return [json.loads(line) for line in said.out.splitlines()[:-1]]


@pytest.fixture(params=["embedded", "kafka"])
def services(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Settings: the embedded bus and store, then a real Kafka and a store that are there."""
    if request.param == "embedded":
        return {
            "HEADRACE_BUS_KIND": "embedded",
            "HEADRACE_WORKER_DATA_DIR": str(tmp_path / "data"),
        }
    bus, store = (request.getfixturevalue(name) for name in ("kafka_url", "store_url"))
    return {"HEADRACE_BUS": bus, "HEADRACE_STORE": store}


@pytest.fixture
def pair(tmp_path: Path, services: dict[str, str], unique: Callable[[str], str]) -> Iterator[Pair]:
    """Press and shops under names of their own; nothing is left running."""
    setup = Setup(tmp_path)
    setup.folder.mkdir()
    setup.environ |= {**services, "HEADRACE_HEALTH": "127.0.0.1:0"}
    made = Pair(setup, {example: unique(example) for example in SIZES})
    for example, name in made.names.items():
        shutil.copytree(EXAMPLES / example, setup.folder / example)
        made.edit(example, f'name = "{example}"', f'name = "{name}"')
    yield made
    if made.command is not None:
        made.command.process.kill()
        made.command.process.communicate()
    give_up = time.monotonic() + LEFT_S
    while setup.running():
        assert time.monotonic() < give_up, setup.running()
        time.sleep(0.05)
