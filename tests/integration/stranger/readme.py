"""What a reader of README.md copies from it: its code blocks, and commands run as they stand."""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import headrace.streams

ROOT = Path(headrace.streams.__file__).parents[1]
HEADRACE = [sys.executable, "-c", "from headrace.streams.cli.main import main; main()"]
DEADLINE_S = 60.0


def blocks(language: str, page: str = "README.md") -> list[str]:
    """The code blocks of one language, in the order of the page."""
    text = (ROOT / page).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(page: str = "README.md") -> list[list[str]]:
    """Every `headrace` command line of the page's shell blocks, in order, split into words."""
    lines = [line for block in blocks("sh", page) for line in block.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    return [line for line in words if line[:1] == ["headrace"]]


class Terminal:
    """A folder and an environment, in which commands are typed.

    Args:
        folder: Working folder.
        environ: Settings, by name.
    """

    def __init__(self, folder: Path, **environ: str) -> None:
        own = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
        self.folder, self.environ = folder, {**own, **environ}

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """One command to its end."""
        program = HEADRACE if words[0] == "headrace" else [sys.executable]
        return subprocess.run(
            [*program, *words[1:]],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            cwd=self.folder,
            env=self.environ,
        )

    def output(self, words: list[str]) -> str:
        """What a command that succeeds prints."""
        done = self.run(words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout


class Running:
    """`headrace up` in the first terminal, until the block ends; then it must end by SIGINT."""

    def __init__(self, terminal: Terminal, words: list[str]) -> None:
        self.process = subprocess.Popen(
            [*HEADRACE, *words[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=terminal.folder,
            env=terminal.environ,
        )
        self._said = b""

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            _, errors = self.process.communicate(timeout=DEADLINE_S)
        finally:
            self.process.kill()
            self.process.wait()
        ended = (self.process.returncode, errors.decode(errors="replace"))
        assert ended == (0, ""), ended

    def line(self, begin: str) -> str:
        """The first line of standard output that begins so; it is waited for."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            for line in self._said.decode().splitlines(keepends=True):
                if line.startswith(begin) and line.endswith("\n"):
                    return line.rstrip()
            if select.select([self.process.stdout], [], [], 0.5)[0]:
                got = os.read(self.process.stdout.fileno(), 65536)
                assert got, self.process.communicate()[1].decode()
                self._said += got
        raise AssertionError(f"no line {begin!r} in {DEADLINE_S} s: {self._said.decode()}")
