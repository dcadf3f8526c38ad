"""Each side of the comparison: how it is started, what it does not give, where to watch it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from environments import python_of
from job import REFERENCE, Shape, pipeline_of, write_model

from headrace.streams.local.service import free_ports

CONTENDERS = Path(__file__).parent / "contenders"
STOP_S = 20.0
EMBEDDED = "embedded"


@dataclass
class Running:
    """One running side.

    Attributes:
        output: Topic of its predictions.
        first: Topic whose first record says that it has begun.
        partitions: Of these topics.
        processes: What was started; CPU time counts these and their descendants.
    """

    output: str
    first: str
    partitions: int = REFERENCE.partitions
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
        bus: host:port; ``embedded`` is Headrace's own.
        store: URL; ``local`` is Headrace's own.
        telemetry: Topic to read.
        run: Name of this run, for groups and topics.
        folder: For its files; its model and log are here.
        shape: Of the job; only Headrace runs another one than the reference.
        mode: Headrace's delivery mode.
    """

    bus: str
    store: str
    telemetry: str
    run: str
    folder: Path
    shape: Shape = REFERENCE
    mode: str = "at-least-once"


@dataclass(frozen=True)
class Starting:
    """One process of a side that is about to start.

    Attributes:
        where: What the side is told.
        output: Topic of its predictions.
        number: Which process.
        ports: A free port for each process of the side.
    """

    where: Where
    output: str
    number: int
    ports: tuple[int, ...]

    @property
    def told(self) -> dict[str, str]:
        """What every contender must know."""
        where = self.where
        return {
            "BUS": where.bus,
            "STORE": where.store,
            "TELEMETRY": where.telemetry,
            "OUTPUT": self.output,
            "MODEL": str(where.folder / "model.onnx"),
        }


Command = Callable[[Starting], list[str]]
"""The command line of one process, without the interpreter."""


@dataclass(frozen=True)
class Side:
    """What can be compared.

    Attributes:
        title: How the table calls it.
        not_given: What it does not guarantee, or costs the user.
        env: Name of its environment in `envs`.
        command: Its command line; None for Headrace, which is started as `headrace up`.
        processes: How many.
        most: It reads no more than this many events, from the front of the log: about ten seconds.
    """

    title: str
    not_given: str
    env: str = "own"
    command: Command | None = None
    processes: int = 1
    most: int = 1 << 40

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
        write_model(where.folder / "model.onnx", where.shape)
        if self.command is None:
            return _headrace(where)
        output = f"{where.run}.predictions"
        running = Running(output, output)
        ports = tuple(free_ports(self.processes))
        for number in range(self.processes):
            starting = Starting(where, output, number, ports)
            command = [python_of(self.env), *self.command(starting)]
            environ = {f"BENCH_{name}": value for name, value in starting.told.items()}
            running.processes.append(_popen(command, where.folder, number, environ))
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
    partitions = where.shape.partitions
    text = pipeline_of(where.shape).format(name=where.run, lateness_s=5.0)
    text = text.replace("[delivery]", f'[delivery]\nmode = "{where.mode}"')
    if where.bus != EMBEDDED:
        text += f'\n[topics]\npartitions = {partitions}\ntelemetry = "{where.telemetry}"\n'
    file.write_text(text, "utf-8")
    environ = {"HEADRACE_BUS": f"kafka://{where.bus}", "HEADRACE_STORE": where.store}
    if where.bus == EMBEDDED:
        environ |= {"HEADRACE_BUS": "local", "HEADRACE_BUS_KIND": EMBEDDED}
    command = [str(Path(sys.executable).parent / "headrace"), "up", str(file)]
    if where.shape.workers > 1:
        command += ["--workers", str(where.shape.workers)]
    predictions = f"headrace.{where.run}.predictions.v1"
    running = Running(predictions, f"headrace.{where.run}.features.v1", partitions)
    running.processes.append(_popen(command, where.folder, 0, environ))
    return running


def _script(name: str) -> Command:
    """A contender that takes bus, store, telemetry, output and model as arguments."""
    return lambda starting: [str(CONTENDERS / name), *starting.told.values()]


def _bytewax(starting: Starting) -> list[str]:
    """Bytewax's own runner, with its recovery store; more processes form its cluster."""
    recovery = starting.where.folder / "recovery"
    if not recovery.is_dir():
        recovery.mkdir()
        init = ["-m", "bytewax.recovery", str(recovery), str(len(starting.ports))]
        subprocess.run([python_of("bytewax"), *init], check=True)
    command = ["-m", "bytewax.run", str(CONTENDERS / "bytewax_batched.py")]
    command += ["-r", str(recovery), "-s", "10", "-b", "0"]
    if len(starting.ports) > 1:
        addresses = ";".join(f"127.0.0.1:{port}" for port in starting.ports)
        command += ["-i", str(starting.number), "-a", addresses]
    return command


NOT_USED = "as written here (its recoverable state is not used)"

ONE_PROCESS: dict[str, Side] = {
    "handwritten": Side(
        "hand-written aiokafka loop",
        "a rebalance mixes two owners; nothing about late events",
        command=_script("handwritten.py"),
    ),
    "bytewax": Side(
        "Bytewax, hand-batched",
        f"{NOT_USED}; after a crash it goes back up to 10 s; positions are in its own files "
        "instead of a consumer group, on a disk that its workers must share",
        env="bytewax",
        command=_bytewax,
    ),
    "quix": Side(
        "Quix Streams, one event at a time",
        f"{NOT_USED}; the store is up to 5 s behind",
        env="quix",
        command=_script("quix.py"),
        most=80_000,
    ),
    "faust_take": Side(
        "Faust, `take(1000)`",
        f"{NOT_USED}; an exception loses the whole batch it was in",
        env="faust",
        command=_script("faust_take.py"),
        most=60_000,
    ),
    "faust": Side(
        "Faust, one event at a time",
        f"{NOT_USED}; an exception loses the event",
        env="faust",
        command=_script("faust_naive.py"),
        most=15_000,
    ),
}

HEADRACE = Side(
    "Headrace, `headrace up`",
    "after a crash a prediction can be there twice, as on every other side in its default; under "
    "one id, by which consumers drop it; a topic more and a second write of every event; needs a "
    "store for its state; higher latency than the hand-written loop (see Latency); uses private "
    "attributes of aiokafka; its eager rebalances stop all partitions; repeats are known only "
    "within the allowed lateness",
    processes=3,
)

SIDES: dict[str, Side] = {
    "headrace": HEADRACE,
    **ONE_PROCESS,
    **{
        f"{name}_x2": replace(side, processes=2, most=2 * side.most)
        for name, side in ONE_PROCESS.items()
    },
}
