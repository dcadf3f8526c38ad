"""`press`, run by ``headrace up`` with something to show in every part of its console."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
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


@dataclass(frozen=True)
class Site:
    """A pipeline that runs.

    Attributes:
        url: Its console.
        file: Its pipeline file.
        environ: Names its bus and store.
    """

    url: str
    file: Path
    environ: dict[str, str]

    @contextmanager
    def fed(self, *words: str) -> Iterator[None]:
        """A producer beside it, ended with the block."""
        with running(self.environ, *words, "--pipeline", str(self.file)):
            yield


@contextmanager
def site() -> Iterator[Site]:
    """`up`, ready, in a folder of its own; ended with the block."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "press"
        shutil.copytree(EXAMPLES / "press", folder)
        file = folder / "pipeline.toml"
        file.write_text(file.read_text("utf-8") + WATCHED, "utf-8")
        environ = {**os.environ, "HEADRACE_WORKER_DATA_DIR": str(Path(name) / "data")}
        with running(environ, "up", str(file)) as up:
            said = lines(up, "export ", "console: ", "ready")
            exports = dict(pair.split("=", 1) for pair in said["export "].split()[1:])
            yield Site(said["console: "].split()[1], file, environ | exports)


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
