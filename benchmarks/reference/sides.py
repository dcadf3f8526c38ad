"""Each side of the comparison: how it is started, what it does not give, where to watch it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from environments import OWN, python_of
from job import REFERENCE, Shape, pipeline_of, write_model
from outcomes import TWO

from headrace.streams.local.service import free_ports

CONTENDERS = Path(__file__).parent / "contenders"
STOP_S = 20.0
EMBEDDED = "embedded"
EXACTLY_ONCE = "exactly-once"
EPOCH_S = 1
"""Of Bytewax, whole seconds; its default is 10, longer than a measured run."""


@dataclass
class Running:
    """One running side.

    Attributes:
        output: Topic of its predictions.
        first: Topic whose first record says that it has begun to work.
        partitions: Of these topics.
        transactions: Whether these topics hold the markers of transactions, too.
        processes: What was started; CPU time counts these and their descendants.
    """

    output: str
    first: str
    partitions: int = REFERENCE.partitions
    transactions: bool = False
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
        watching: How Headrace's stages are watched, where they run alone: as users run them
            (``usual``), with everything on (``all``) or not at all (``off``).
    """

    bus: str
    store: str
    telemetry: str
    run: str
    folder: Path
    shape: Shape = REFERENCE
    watching: Literal["usual", "all", "off"] = "usual"


@dataclass(frozen=True)
class Side:
    """What can be compared.

    Attributes:
        title: How the table calls it.
        env: Name of its environment in `envs`.
        script: Its file among the contenders; empty for Headrace, which is `headrace up`.
        processes: How many.
        events: Length of its log: some seconds of work at the rate it was seen at on two cores, a
            multiple of its batches times its processes. Sides of one length share one log, and a
            shorter log is the front of a longer one.
        commits: After what its progress is committed, beside the framework's default where the
            clock decides: every side commits several times while it is timed.
        stores: After what its rows are in the store.
        names_partition: Whether it says which partition a prediction goes to, or leaves that to
            the hash of the key.
        mode: Headrace's delivery mode.
    """

    title: str
    env: str = OWN
    script: str = ""
    processes: int = 1
    events: int = 1_200_000
    commits: str = "each batch"
    stores: str = "each batch"
    names_partition: bool = True
    mode: str = "at-least-once"

    def topics(self, run: str) -> list[str]:
        """The topics it writes."""
        if self.script:
            return [f"{run}.predictions"]
        stages = ("features", "predictions", "late", "deadletter", "partials", "summaries")
        return [f"headrace.{run}.{stage}.v1" for stage in (*stages, "observed")]

    @property
    def makes_topics(self) -> bool:
        """Whether it makes its topics itself."""
        return not self.script

    def start(self, where: Where) -> Running:
        """Start it; its topics are there unless it makes them."""
        write_model(where.folder / "model.onnx", where.shape)
        if not self.script:
            return _headrace(where, self.mode)
        output = f"{where.run}.predictions"
        running = Running(output, output)
        ports = free_ports(self.processes)
        words = _bytewax if self.env == "bytewax" else _script
        for number in range(self.processes):
            command = [python_of(self.env), *words(self, where.folder, number, ports)]
            running.processes.append(_popen(command, where.folder, number, told(where, output)))
        return running


def told(where: Where, output: str) -> dict[str, str]:
    """What every contender must know, as its environment variables."""
    return {
        "BENCH_BUS": where.bus,
        "BENCH_STORE": where.store,
        "BENCH_TELEMETRY": where.telemetry,
        "BENCH_OUTPUT": output,
        "BENCH_MODEL": str(where.folder / "model.onnx"),
    }


def _popen(
    command: list[str], folder: Path, number: int, environ: dict[str, str]
) -> subprocess.Popen[bytes]:
    with (folder / f"log-{number}.txt").open("wb") as log:
        return subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=os.environ | environ
        )


def _headrace(where: Where, mode: str) -> Running:
    """`headrace up`, as a user runs it."""
    file = where.folder / "pipeline.toml"
    partitions = where.shape.partitions
    text = pipeline_of(where.shape).format(name=where.run, lateness_s=5.0)
    text = text.replace("[delivery]", f'[delivery]\nmode = "{mode}"')
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
    first = f"headrace.{where.run}.features.v1"
    running = Running(predictions, first, partitions, transactions=mode == EXACTLY_ONCE)
    running.processes.append(_popen(command, where.folder, 0, environ))
    return running


def _script(side: Side, folder: Path, number: int, ports: Sequence[int]) -> list[str]:
    """A contender that is a program; its processes find one another in their consumer group."""
    return [str(CONTENDERS / side.script)]


def _bytewax(side: Side, folder: Path, number: int, ports: Sequence[int]) -> list[str]:
    """Bytewax's own runner, with its recovery store; more processes form its cluster."""
    recovery = folder / "recovery"
    if not recovery.is_dir():
        recovery.mkdir()
        init = ["-m", "bytewax.recovery", str(recovery), str(len(ports))]
        subprocess.run([python_of(side.env), *init], check=True)
    command = ["-m", "bytewax.run", str(CONTENDERS / side.script)]
    command += ["-r", str(recovery), "-s", str(EPOCH_S), "-b", "0"]
    if len(ports) > 1:
        addresses = ";".join(f"127.0.0.1:{port}" for port in ports)
        command += ["-i", str(number), "-a", addresses]
    return command


ONE_PROCESS: dict[str, Side] = {
    "handwritten": Side(
        "hand-written aiokafka loop", "handwritten", "handwritten.py", events=600_000
    ),
    "confluent": Side(
        "hand-written confluent-kafka loop", "confluent", "confluent_loop.py", events=800_000
    ),
    "bytewax": Side(
        "Bytewax, hand-batched", "bytewax", "bytewax_batched.py", events=600_000,
        commits=f"{EPOCH_S} s (default 10)", names_partition=False,
    ),
    "quix_sink": Side(
        "Quix Streams, batched in its sink", "quix", "quix_sink.py", events=360_000,
        commits="0.2 s or 60,000 events (default 5 s)", stores="each commit",
    ),
    "quix": Side(
        "Quix Streams, one event at a time", "quix", "quix_each.py", events=180_000,
        commits="1 s (default 5)", stores="each commit", names_partition=False,
    ),
    "faust_take": Side(
        "Faust, `take(1000)`", "faust", "faust_take.py", events=48_000, commits="1 s (default 2.8)"
    ),
    "faust": Side(
        "Faust, one event at a time", "faust", "faust_each.py", events=20_000,
        commits="1 s (default 2.8)", stores="1 s, by a timer",
    ),
}  # fmt: skip

SIDES: dict[str, Side] = {
    "headrace": Side(
        "Headrace, `headrace up`",
        processes=3,
        commits="each batch, in its store; its group's offset 0.5 s",
    ),
    "headrace_once": Side(
        "Headrace, exactly-once", processes=3, commits="each transaction", mode=EXACTLY_ONCE
    ),
    **ONE_PROCESS,
    **{
        f"{name}{TWO}": replace(side, processes=2, events=2 * side.events)
        for name, side in ONE_PROCESS.items()
    },
}
