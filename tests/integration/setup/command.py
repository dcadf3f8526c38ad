"""`headrace` commands as a stranger starts them: what they said and what they left running."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from headrace.streams.cli.context import pipeline_file

HEADRACE = [sys.executable, "-c", "from headrace.streams.cli.main import main; main()"]
LIMIT_S = 20.0


@dataclass(frozen=True)
class Said:
    """How a command ended.

    Attributes:
        command: Which.
        code: Exit code.
        out: Standard output.
        err: Standard error.
    """

    command: str
    code: int
    out: str
    err: str

    def is_one_line(self) -> bool:
        """One line on standard error, that of a failure, and no traceback anywhere."""
        whole = self.err.startswith("headrace: ") and self.err.endswith("\n")
        return whole and self.err.count("\n") == 1 and "Traceback" not in self.err + self.out


@dataclass(frozen=True)
class Started:
    """A command that runs; it is killed where the block ends before it.

    Attributes:
        command: Which.
        process: The command itself.
    """

    command: str
    process: subprocess.Popen[str]

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def await_line(self, begin: str) -> None:
        """Read standard output up to a line that begins so; the command may not end before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(begin):
                return
        raise AssertionError(self.end())

    def end(self, *, within_s: float = LIMIT_S) -> Said:
        """Wait until it ends."""
        out, err = self.process.communicate(timeout=within_s)
        return Said(self.command, self.process.returncode, out, err)


@dataclass
class Setup:
    """A folder with a sound pipeline, and settings that lead to embedded services.

    A test breaks one thing and runs commands.

    Attributes:
        root: Holds everything of this set-up, the local services' files too.
        environ: Settings.
        before: Words put before the command.
    """

    root: Path
    environ: dict[str, str] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)

    @classmethod
    def of_hosts(cls, root: Path) -> Setup:
        """The example of this machine's own telemetry, on embedded services."""
        made = cls(root)
        made.folder.mkdir()
        example = pipeline_file("hosts").parent
        shutil.copy(example / "pipeline.toml", made.file)
        for name in ("model.onnx", "golden.json"):
            shutil.copy(example / name, made.folder / name)
        made.environ["HEADRACE_BUS_KIND"] = "embedded"
        made.environ["HEADRACE_WORKER_DATA_DIR"] = str(root / "data")
        return made

    @property
    def folder(self) -> Path:
        """Working folder: pipeline file and model."""
        return self.root / "site"

    @property
    def file(self) -> Path:
        """The pipeline file."""
        return self.folder / "hosts.toml"

    def edit(self, old: str, new: str) -> None:
        """Replace a text of the pipeline file, which is there."""
        text = self.file.read_text("utf-8")
        assert old in text
        self.file.write_text(text.replace(old, new, 1), "utf-8")

    def start(self, *words: str) -> Started:
        """Start a command."""
        own = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
        process = subprocess.Popen(
            [*self.before, *HEADRACE, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**own, **self.environ},
        )
        return Started(words[0], process)

    def run(self, *words: str) -> Said:
        """Run a command to its end; it may take `LIMIT_S`."""
        with self.start(*words) as started:
            return started.end()

    def run_all(self, commands: Sequence[Sequence[str]]) -> list[Said]:
        """Run commands side by side, each to its end."""
        with ThreadPoolExecutor(len(commands)) as threads:
            return list(threads.map(lambda words: self.run(*words), commands))

    def running(self) -> dict[int, str]:
        """Processes that work in a folder of this set-up, and their command lines.

        Workers work in the command's folder, local services in one of their own. (An environment
        would not tell: a store overwrites its own with its title.)
        """
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if (path / "cwd").readlink().is_relative_to(self.root):
                    line = (path / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(path.name)] = line.decode()
            except OSError:
                continue
        return found

    def child(self, words: str) -> int:
        """The one running process whose command line has these words."""
        [found] = [pid for pid, line in self.running().items() if words in line]
        return found
