"""Worker processes of a campaign: started, killed and started again by their own pid."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import msgspec
from chaos.pipelines import Pipe

from headrace.streams.jobs import Status

READY_S = 60.0


class Workers:
    """Workers by name: ``serve``, or ``serve-2`` for a second one of the stage.

    Args:
        pipe: Their pipeline.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._said: dict[str, Path] = {}
        self._lives = 0

    def start(self, *names: str) -> None:
        """Start workers and tell them where the services are."""
        for name in names:
            self._lives += 1
            said = self._pipe.folder / f"{name}.{self._lives}.status"
            with said.open("wb") as status, said.with_suffix(".log").open("wb") as log:
                self._processes[name] = worker = self._started(name, status, log)
            self._said[name] = said
            assert worker.stdin is not None
            worker.stdin.write(msgspec.json.encode(self._pipe.endpoints) + b"\n")
            worker.stdin.flush()

    def _started(self, name: str, status: IO[bytes], log: IO[bytes]) -> subprocess.Popen[bytes]:
        stage = name.partition("-")[0]
        command = [sys.executable, "-m", "headrace.streams.worker", stage, str(self._pipe.file)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=status, stderr=log)

    def is_ready(self, name: str) -> bool:
        """Whether its last whole status line says so."""
        lines = self._said[name].read_bytes().split(b"\n")[:-1]
        return bool(lines) and msgspec.json.decode(lines[-1], type=Status).ready

    async def ready(self, *names: str) -> None:
        """Wait until these, or all of them, are ready."""
        give_up = time.monotonic() + READY_S
        while late := [name for name in names or self._processes if not self.is_ready(name)]:
            for name in late:
                code = self._processes[name].poll()
                assert code is None, f"worker {name} ended with {code}: {self.log(name)}"
            assert time.monotonic() < give_up, f"{late} not ready in {READY_S} s"
            await asyncio.sleep(0.02)

    def log(self, name: str) -> str:
        """The last lines it wrote on standard error."""
        return self._said[name].with_suffix(".log").read_text(errors="replace")[-2000:]

    def kill(self, *names: str) -> None:
        """SIGKILL, all of them before any is waited for."""
        for name in names:
            self._processes[name].send_signal(signal.SIGKILL)
        for name in names:
            assert self._processes[name].wait() == -signal.SIGKILL, self.log(name)
            self._forget(name)

    async def pause(self, *names: str, for_s: float) -> None:
        """SIGSTOP, and after a while SIGCONT: they do not know that time has passed."""
        for name in names:
            self._processes[name].send_signal(signal.SIGSTOP)
        await asyncio.sleep(for_s)
        for name in names:
            self._processes[name].send_signal(signal.SIGCONT)

    async def terminate(self, name: str) -> None:
        """SIGTERM: it finishes the batch in hand and ends with code 0."""
        self._processes[name].send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(self._processes[name].wait, 30)
        assert code == 0, self.log(name)
        self._forget(name)

    def _forget(self, name: str) -> None:
        stdin = self._processes.pop(name).stdin
        assert stdin is not None
        stdin.close()

    async def stop(self) -> None:
        """Close every worker's standard input, which ends it in order."""
        names = list(self._processes)
        processes = list(self._processes.values())
        for name in names:
            self._forget(name)
        codes = await asyncio.gather(*(asyncio.to_thread(p.wait, 30) for p in processes))
        assert set(codes) <= {0}, dict(zip(names, codes, strict=True))

    def end(self) -> None:
        """Whatever still runs, at once: for the end of a test that failed."""
        for worker in self._processes.values():
            worker.kill()
            worker.wait()
        for name in list(self._processes):
            self._forget(name)
