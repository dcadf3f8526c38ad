"""Each side of the comparison as processes to start, and the topics by which it is watched."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from job import PIPELINE, write_model

HERE = Path(__file__).parent


@dataclass
class Side:
    """One running side.

    Attributes:
        output: Topic of its predictions.
        first: Topic whose first record says that it has begun.
        processes: Its processes; their CPU time is counted.
        guarantees: What it promises, for the report.
    """

    output: str
    first: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def stop(self) -> None:
        """End its processes."""
        for process in self.processes:
            if process.stdin is not None:
                process.stdin.close()
            else:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def handwritten(bus: str, store: str, telemetry: str, name: str, folder: Path) -> Side:
    """The hand-written aiokafka loop; its output topic is made by the caller."""
    write_model(folder / "model.onnx")
    output = f"{name}.predictions"
    command = [
        sys.executable, str(HERE / "handwritten.py"), bus, store, telemetry, output,
        str(folder / "model.onnx"),
    ]  # fmt: skip
    return Side(output, output, [subprocess.Popen(command)])


def headrace(bus: str, store: str, telemetry: str, name: str, folder: Path) -> Side:
    """Headrace's two workers, just as `headrace up` starts them."""
    write_model(folder / "model.onnx")
    file = folder / "pipeline.toml"
    file.write_text(PIPELINE.format(name=name, telemetry=telemetry, lateness_s=5.0))
    endpoints = json.dumps(
        {"bus": {"url": f"kafka://{bus}"}, "store": {"url": store}, "embedded": False}
    )
    side = Side(f"headrace.{name}.predictions.v1", f"headrace.{name}.features.v1")
    for stage in ("enrich", "serve"):
        command = [sys.executable, "-m", "headrace.streams.worker", stage, str(file)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        if process.stdin is not None:
            process.stdin.write(endpoints.encode() + b"\n")
            process.stdin.flush()
        side.processes.append(process)
    return side


SIDES = {"handwritten": handwritten, "headrace": headrace}

GUARANTEES = {
    "handwritten": "at least once while running; state, EWMAs and dedupe are lost at a restart",
    "headrace": "at least once with deterministic ids, state and dedupe recovered bit for bit, "
    "dead letter, late topic, per-device order",
}
