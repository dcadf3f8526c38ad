"""One `headrace` command as a stranger starts it: what it said and what it left."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

HEADRACE = [sys.executable, "-c", "from headrace.streams.cli.main import main; main()"]
LIMIT_S = 20.0
MARK = "HEADRACE_INTERNAL_RUN"


@dataclass
class Setup:
    """A folder with a sound pipeline, and settings that lead to embedded services.

    A test breaks one thing and runs a command.

    Attributes:
        folder: Working folder; holds ``hosts.toml`` and its model.
        environ: Settings.
        before: Words put before the command.
    """

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)

    @property
    def file(self) -> Path:
        """The pipeline file."""
        return self.folder / "hosts.toml"

    def edit(self, old: str, new: str) -> None:
        """Replace a text of the pipeline file, which is there."""
        text = self.file.read_text("utf-8")
        assert old in text
        self.file.write_text(text.replace(old, new, 1), "utf-8")

    def run(self, *words: str) -> Said:
        """Run a command to its end."""
        [said] = self.run_all([words])
        return said

    def run_all(self, commands: Sequence[Sequence[str]]) -> list[Said]:
        """Run commands side by side, each to its end; each may take `LIMIT_S`."""
        with ThreadPoolExecutor(len(commands)) as threads:
            return list(threads.map(self._run, commands))

    def _run(self, words: Sequence[str]) -> Said:
        mark = uuid.uuid4().hex
        own = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
        done = subprocess.run(
            [*self.before, *HEADRACE, *words],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            cwd=self.folder,
            env={**own, **self.environ, MARK: mark},
        )
        return Said(words[0], done.returncode, done.stdout, done.stderr, left_by(mark))


@dataclass(frozen=True)
class Said:
    """How a command ended.

    Attributes:
        command: Which.
        code: Exit code.
        out: Standard output.
        err: Standard error.
        left: Processes it started that still run.
    """

    command: str
    code: int
    out: str
    err: str
    left: list[int]

    def is_one_line(self) -> bool:
        """One line on standard error, that of a failure, and no traceback anywhere."""
        whole = self.err.startswith("headrace: ") and self.err.endswith("\n")
        return whole and self.err.count("\n") == 1 and "Traceback" not in self.err + self.out


def left_by(mark: str) -> list[int]:
    """Processes whose environment has this mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (path / "environ").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found
