"""One pipeline of a simulated fleet, run by ``headrace up``, and commands that feed and ask it."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from headrace.streams.workers.jobs import STAGES

PRESS = Path(__file__).parents[2] / "examples" / "press"
HEADRACE = [sys.executable, "-c", "from headrace.streams.cli.main import main; main()"]
READY_S = 60.0
PARTITIONS = 4


class Site:
    """Services and workers of one scenario, and what the workers said.

    Args:
        name: The pipeline's, new to bus and store.
        folder: Where its file and the ledger lie.
        environ: Names bus and store.
    """

    def __init__(self, name: str, folder: Path, environ: dict[str, str]) -> None:
        self.folder, self.environ = folder, environ
        shutil.copytree(PRESS, folder / "press")
        self.file = folder / "press" / "pipeline.toml"
        text = self.file.read_text("utf-8").replace('name = "press"', f'name = "{name}"', 1)
        self.file.write_text(text.replace("partitions = 2", f"partitions = {PARTITIONS}"), "utf-8")
        self.statuses: dict[str, dict[str, Any]] = {}
        self._told = asyncio.Event()
        self._up: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Site:
        self._up = await asyncio.create_subprocess_exec(
            *HEADRACE, "up", str(self.file), "--from", "earliest", "--json",
            env=self.environ, stdout=subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(READY_S):
            while not (await self._line()).startswith("ready"):
                pass
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reading is not None:
            self._reading.cancel()
        if self._up is not None and self._up.returncode is None:
            self._up.send_signal(signal.SIGINT)
            await self._up.wait()

    async def run(self, *arguments: str, code: tuple[int, ...] = ()) -> dict[str, Any]:
        """One command; the JSON object that is its last line.

        Args:
            arguments: The command; the pipeline file is added as it wants it.
            code: Exit codes that are answers; empty takes any.
        """
        named = [str(self.file)] if arguments[0] == "replay" else ["--pipeline", str(self.file)]
        process = await asyncio.create_subprocess_exec(
            *HEADRACE, *arguments, *named, "--json", env=self.environ, stdout=subprocess.PIPE,
        )  # fmt: skip
        said, _ = await process.communicate()
        found: dict[str, Any] = json.loads(said.splitlines()[-1])
        if "error" in found or (code and process.returncode not in code):
            raise SystemExit(found.get("error", {}).get("message", f"{arguments} ended badly"))
        return found

    def without_golden(self) -> None:
        """Serve any model of the same signature."""
        text = self.file.read_text("utf-8").replace('golden = "golden.json"\n', "")
        self.file.write_text(text, "utf-8")

    def worker_pids(self) -> list[int]:
        """Processes of the workers: those below the supervisor that have no child of their own."""
        return [] if self._up is None else [p for p in _leaves(self._up.pid) if p != self._up.pid]

    async def served(self) -> None:
        """Wait until every stage says three times in a row: ready, and nothing behind."""
        quiet = 0
        async with asyncio.timeout(READY_S):
            while quiet < 3:
                await self.told_again()
                # A worker that was just started again is not ready, and knows of no lag.
                done = all(one["ready"] and not one["lag"] for one in self.statuses.values())
                quiet = quiet + 1 if done else 0

    async def told_again(self) -> None:
        """Wait for the next line of every stage: the last events are counted in it."""
        self.statuses.clear()
        async with asyncio.timeout(READY_S):
            while len(self.statuses) < len(STAGES):
                self._told.clear()
                await self._told.wait()

    async def _line(self) -> str:
        assert self._up is not None
        assert self._up.stdout is not None
        line = (await self._up.stdout.readline()).decode()
        if not line:
            raise SystemExit("headrace up ended by itself; see above")
        return line

    async def _read(self) -> None:
        while True:
            line = await self._line()
            if line.startswith("{"):
                status = json.loads(line)
                self.statuses[status["stage"]] = status
                self._told.set()


def _leaves(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    except OSError:  # it has ended
        return []
    return [leaf for child in children for leaf in _leaves(int(child))] or [pid]
