"""`press`, run by ``headrace up`` with something to show in every part of its console."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HEADRACE = [sys.executable, "-c", "from headrace.streams.cli.main import main; main()"]
EXAMPLES = Path(__file__).parents[2] / "examples"
WATCHED = """
[observe]
class_by = "line"
[slo.site.decision]
kind = "latency"
target = 0.99
within_ms = 500.0
[slo.site.answered]
kind = "success"
target = 0.99
"""
"""Added to the example's file: without them two parts of the page have nothing to show."""

PREDICTED_S = 60.0


@dataclass(frozen=True)
class Site:
    """A pipeline that runs.

    Attributes:
        url: Its console.
        health: Where its health is asked for.
        file: Its pipeline file.
        environ: Names its bus and store.
    """

    url: str
    health: str
    file: Path
    environ: dict[str, str]

    @contextmanager
    def fed(self, *words: str) -> Iterator[None]:
        """A producer beside it, ended with the block."""
        with running(self.environ, *words, "--pipeline", str(self.file)):
            yield

    def await_predictions(self, least: int) -> None:
        """Wait until so many events are predicted."""
        until = time.monotonic() + PREDICTED_S
        while time.monotonic() < until:
            with urllib.request.urlopen(f"{self.health}/observe", timeout=5) as answer:
                (view,) = json.load(answer)["pipelines"]
            out = {stage["stage"]: stage["events"].get("out", 0) for stage in view["stages"]}
            if out.get("serve", 0) >= least:
                return
            time.sleep(0.1)
        sys.exit(f"waiting for {least} predictions found fewer within {PREDICTED_S:.0f} s")


@contextmanager
def site() -> Iterator[Site]:
    """`up`, ready, in a folder of its own; ended with the block."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "press"
        shutil.copytree(EXAMPLES / "press", folder)
        file = folder / "pipeline.toml"
        file.write_text(file.read_text("utf-8") + WATCHED, "utf-8")
        environ = {**os.environ, "HEADRACE_WORKER_DATA_DIR": str(Path(name) / "data")}
        environ["HEADRACE_HEALTH"] = "127.0.0.1:0"
        with running(environ, "up", str(file)) as up:
            said = lines(up, "health: ", "export ", "console: ", "ready")
            exports = dict(pair.split("=", 1) for pair in said["export "].split()[1:])
            url, health = (said[name].split()[1] for name in ("console: ", "health: "))
            yield Site(url, health.removesuffix("/healthz"), file, environ | exports)


@contextmanager
def running(environ: dict[str, str], *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command of `headrace`, ended with the block."""
    with subprocess.Popen(
        [*HEADRACE, *words], env=environ, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


def lines(process: subprocess.Popen[str], *begins: str) -> dict[str, str]:
    """The first line that begins with each of these."""
    assert process.stdout is not None
    found: dict[str, str] = {}
    for line in process.stdout:
        found |= {begin: line for begin in begins if line.startswith(begin)}
        if len(found) == len(begins):
            return found
    sys.exit(f"starting the pipeline ended before it said {set(begins) - found.keys()}")
