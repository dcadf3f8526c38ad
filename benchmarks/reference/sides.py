"""Each side of the comparison: how it is started, what it promises, by which topics it is watched."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from environments import python_of
from job import PIPELINE, write_model

CONTENDERS = Path(__file__).parent / "contenders"
STOP_S = 20.0


@dataclass
class Running:
    """One running side.

    Attributes:
        output: Topic of its predictions.
        first: Topic whose first record says that it has begun.
        processes: What was started; CPU time counts these and their descendants.
    """

    output: str
    first: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def stop(self) -> None:
        """End its processes."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def ended(self) -> bool:
        """Whether one of its processes has ended."""
        return any(process.poll() is not None for process in self.processes)


@dataclass(frozen=True)
class Where:
    """What a side is told.

    Attributes:
        bus: host:port.
        store: URL.
        telemetry: Topic to read.
        run: Name of this run, for groups and topics.
        folder: For its files; its model and log are here.
        bus_kind: ``kafka`` or ``embedded``.
    """

    bus: str
    store: str
    telemetry: str
    run: str
    folder: Path
    bus_kind: str = "kafka"


Command = Callable[[Where, str, int, int], list[str]]
"""The command line of one process: where, output topic, its number, how many there are."""


@dataclass(frozen=True)
class Side:
    """What can be compared.

    Attributes:
        title: How the table calls it.
        not_given: What it does not guarantee, or costs the user.
        env: Name of its environment in `envs`.
        command: Its command line; None for Headrace, which is started as `headrace up`.
        processes: How many.
        slow: Below 10,000 events/s: it gets a shorter prefix of the log.
    """

    title: str
    not_given: str
    env: str = "own"
    command: Command | None = None
    processes: int = 1
    slow: bool = False

    def topics(self, run: str) -> list[str]:
        """The topics it writes."""
        if self.command is not None:
            return [f"{run}.predictions"]
        stages = ("features", "predictions", "late", "deadletter", "summaries")
        return [f"headrace.{run}.{stage}.v1" for stage in stages]

    @property
    def makes_topics(self) -> bool:
        """Whether it makes its topics itself."""
        return self.command is None

    def start(self, where: Where) -> Running:
        """Start it; its topics are there unless it makes them."""
        write_model(where.folder / "model.onnx")
        if self.command is None:
            return _headrace(where)
        output = f"{where.run}.predictions"
        running = Running(output, output)
        for number in range(self.processes):
            command = [python_of(self.env), *self.command(where, output, number, self.processes)]
            running.processes.append(_popen(command, where.folder, number, {}))
        return running


def _popen(
    command: list[str], folder: Path, number: int, environ: dict[str, str]
) -> subprocess.Popen[bytes]:
    with (folder / f"log-{number}.txt").open("wb") as log:
        return subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=os.environ | environ
        )


def _headrace(where: Where) -> Running:
    """`headrace up`, as a user runs it."""
    file = where.folder / "pipeline.toml"
    file.write_text(PIPELINE.format(name=where.run, telemetry=where.telemetry, lateness_s=5.0))
    environ = {"HEADRACE_BUS": f"kafka://{where.bus}", "HEADRACE_STORE": where.store}
    command = [str(Path(sys.executable).parent / "headrace"), "up", str(file)]
    predictions = f"headrace.{where.run}.predictions.v1"
    running = Running(predictions, f"headrace.{where.run}.features.v1")
    running.processes.append(_popen(command, where.folder, 0, environ))
    return running


def _script(name: str) -> Command:
    """A contender that takes bus, store, telemetry, output and model as arguments."""

    def command(where: Where, output: str, number: int, count: int) -> list[str]:
        script = str(CONTENDERS / name)
        model = str(where.folder / "model.onnx")
        return [script, where.bus, where.store, where.telemetry, output, model]

    return command


SIDES: dict[str, Side] = {
    "headrace": Side(
        "Headrace, `headrace up`",
        "-",
        processes=2,
    ),
    "handwritten": Side(
        "hand-written aiokafka loop",
        "EWMAs and the dedupe set are lost at a restart, so features change and repeats pass; "
        "no stable prediction ids against repeats for another cut of the log; no dead letter: one "
        "bad record stops it for ever; no late topic",
        command=_script("handwritten.py"),
    ),
}
SIDES["handwritten-x2"] = Side(
    "the same, two processes",
    SIDES["handwritten"].not_given,
    command=SIDES["handwritten"].command,
    processes=2,
)
