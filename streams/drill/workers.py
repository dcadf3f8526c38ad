"""Worker processes of a drill: started, struck and started again by their own pid."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from headrace.schemas.errors import FatalError
from headrace.streams.drill.crash_points import VARIABLE
from headrace.streams.drill.memory import EVERY_S, Memory
from headrace.streams.drill.orders import VARIABLE as ORDERS
from headrace.streams.drill.target import Target
from headrace.streams.workers.jobs import Status
from headrace.streams.workers.spawning import WORKER, Child, Spawner
from headrace.streams.workers.supervisor import EXIT_FATAL, KILL_AFTER_S

READY_S = 90.0
LOOK_S = 0.05
ORDERED_WORKER = (sys.executable, "-m", "headrace.streams.drill.ordered_worker")


@dataclass
class Life:
    """One process of a worker.

    Attributes:
        process: It.
        said: Where its status lines go; ``.log`` beside it is its standard error.
        memory: What it held over time.
        status: The last one that was read.
        read: Bytes of `said` that were read.
        born_s: When it was started, monotonic seconds.
    """

    process: Child
    said: Path
    memory: Memory
    status: Status | None = None
    read: int = field(default=0, repr=False)
    born_s: float = field(default_factory=time.monotonic, repr=False)

    def look(self) -> None:
        """Read what it has said since the last look."""
        with self.said.open("rb") as file:
            file.seek(self.read)
            lines, newline, _ = file.read().rpartition(b"\n")
        if newline:
            self.read += len(lines) + 1
            self.status = msgspec.json.decode(lines.rpartition(b"\n")[2], type=Status)
            age_s = time.monotonic() - self.born_s
            self.memory.add(age_s, self.status.rss_mb, self.status.state_bytes / (1 << 20))

    def close(self) -> None:
        """Close its standard input, which ends it in order where it runs."""
        if self.process.stdin is not None:
            self.process.stdin.close()

    def last_line(self) -> str:
        """Why it ended, or the last line it wrote on standard error."""
        if self.status is not None and self.status.error:
            return self.status.error
        lines = self.said.with_suffix(".log").read_text(errors="replace").splitlines()
        return lines[-1] if lines else "it said nothing"


class Workers:
    """Workers by name: ``serve``, or ``serve-2`` for a second one of the stage.

    A worker that ends by itself, as it may when bus or store go away, is started again, as its
    supervisor would; one that ends for good ends the drill.

    Args:
        target: Their pipeline.
        command: What runs a worker, before stage and file.
    """

    def __init__(self, target: Target, command: Sequence[str] = WORKER) -> None:
        self._target, self._command = target, command
        self._spawner = Spawner()
        self._lives: dict[str, Life] = {}
        self._count = 0
        self._ended_s = 0.0
        self._positions: dict[tuple[str, int], int] = {}
        self._gone: dict[tuple[str, int], int] = {}
        self.crashes: Counter[str] = Counter()
        """How often a worker of each stage ended by itself."""
        self.memories: list[Memory] = []
        """What each life held, in the order of their begins."""

    def start(self, *names: str, crash_at: str | None = None) -> None:
        """Start workers and tell them where the services are.

        Args:
            names: Which.
            crash_at: Crash point at which they end.
        """
        for name in names:
            self._count += 1
            said = self._target.folder / f"{self._target.name}.{name}.{self._count}.status"
            with said.open("wb") as status, said.with_suffix(".log").open("wb") as log:
                process = self._started(name, status.fileno(), log.fileno(), crash_at)
            self._lives[name] = Life(process, said, Memory(name))
            self.memories.append(self._lives[name].memory)
            if process.stdin is not None:
                process.stdin.write(msgspec.json.encode(self._target.for_workers) + b"\n")
                process.stdin.flush()

    def _started(self, name: str, status: int, log: int, crash_at: str | None) -> Child:
        environ = {key: value for key, value in os.environ.items() if key != VARIABLE}
        environ[ORDERS] = str(self._target.orders)
        if crash_at is not None:
            environ[VARIABLE] = crash_at
        command = [*self._command, name.partition("-")[0], str(self._target.file)]
        return self._spawner.spawn(command, stdout=status, stderr=log, environ=environ)

    def look(self) -> None:
        """Read every worker's status; start again what ended by itself.

        Raises:
            FatalError: a worker ended for good.
        """
        for name, life in list(self._lives.items()):
            life.look()
            stage = name.partition("-")[0]
            for said in filter(None, (life.status, life.status and life.status.beside)):
                for part in said.partitions:
                    place = said.stage, part.partition
                    if part.position < self._gone.get(place, 1 << 63):
                        self._gone.pop(place, None)
                    self._positions[place] = max(part.position, self._positions.get(place, 0))
            code = life.process.poll()
            if code in (None, -signal.SIGKILL):  # ours: whoever killed it, starts it again
                continue
            if code in (0, EXIT_FATAL):
                raise FatalError(
                    f"worker {name} ended with code {code}, expected it to run: {life.last_line()}"
                )
            self.crashes[stage] += 1
            self._forget(name)
            self.start(name)

    def begin_anew(self, stage: str) -> None:
        """Its log begins again: positions are taken for those of the new one once they fall."""
        for place in [place for place in self._positions if place[0] == stage]:
            self._gone[place] = self._positions.pop(place)

    async def watch(self) -> None:
        """Look once a second, for ever.

        Raises:
            FatalError: a worker ended for good.
        """
        while True:
            self.look()
            await asyncio.sleep(EVERY_S)

    def is_ready(self, name: str) -> bool:
        """Whether a worker runs and said that it is ready, as of the last look."""
        life = self._lives.get(name)
        return life is not None and life.status is not None and life.status.ready

    async def ready(self, *names: str) -> None:
        """Wait until these, or all of them, are ready.

        Raises:
            FatalError: not within `READY_S`, or a worker ended for good.
        """
        give_up_s = time.monotonic() + READY_S
        while True:
            self.look()
            lives = [(name, self._lives.get(name)) for name in names or self._lives]
            late = [name for name, _ in lives if not self.is_ready(name)]
            if not late:
                return
            if time.monotonic() > give_up_s:
                told = "; ".join(f"{n}: {life.last_line()}" for n, life in lives if life)
                raise FatalError(
                    f"workers {', '.join(late)} are not ready after {READY_S:.0f} s; {told}"
                )
            await asyncio.sleep(LOOK_S)

    async def reached(self, stage: str, ends: Mapping[int, int], *, within_s: float) -> None:
        """Wait until a stage has made everything below `ends` durable.

        The time is that since a worker last ended: one that is killed again and again does nothing.

        Raises:
            FatalError: not in time, or a worker ended for good.
        """
        began_s = time.monotonic()
        while True:
            self.look()
            found = {p: self._positions.get((stage, p), 0) for p in ends}
            behind = {p: end - found[p] for p, end in ends.items() if found[p] < end}
            if not behind:
                return
            if time.monotonic() > max(began_s, self._ended_s) + within_s:
                rows = sum(behind.values())
                raise FatalError(
                    f"stage {stage!r} is {rows} records behind in partitions {sorted(behind)} "
                    f"after {within_s:.0f} s, expected none; see its lines in the pipeline's folder"
                )
            await asyncio.sleep(LOOK_S)

    def kill(self, *names: str) -> None:
        """SIGKILL, all of them before any is waited for."""
        for name in names:
            self._lives[name].process.send_signal(signal.SIGKILL)
        for name in names:
            self._lives[name].process.wait()
            self._forget(name)

    async def died(self, name: str, *, within_s: float) -> bool:
        """Wait for a worker to reach its crash point; whether it did, and it is dead either way."""
        give_up_s = time.monotonic() + within_s
        process = self._lives[name].process
        while process.poll() is None and time.monotonic() < give_up_s:
            self.look()
            await asyncio.sleep(LOOK_S)
        reached = process.poll() == -signal.SIGKILL
        self.kill(name)
        return reached

    async def pause(self, *names: str, for_s: float) -> None:
        """SIGSTOP, and after a while SIGCONT: they do not know that time has passed."""
        processes = [self._lives[name].process for name in names]
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(for_s)
        finally:
            for process in processes:
                process.send_signal(signal.SIGCONT)

    async def terminate(self, *names: str) -> None:
        """SIGTERM: they finish the batch in hand and end with code 0.

        Raises:
            FatalError: one did not.
        """
        lives = {name: self._lives.pop(name) for name in names}
        for life in lives.values():
            life.process.send_signal(signal.SIGTERM)
        await _ended(lives)

    async def stop(self) -> None:
        """Close every worker's standard input, which ends it in order.

        Raises:
            FatalError: one did not end, or with another code than 0.
        """
        self.look()
        lives, self._lives = self._lives, {}
        for life in lives.values():
            life.close()
        await _ended(lives)

    def end(self) -> None:
        """Whatever still runs, at once: for the end of a drill that failed."""
        for life in self._lives.values():
            life.process.kill()
            life.process.wait()
        for name in list(self._lives):
            self._forget(name)
        self._spawner.stop()

    def _forget(self, name: str) -> None:
        self._ended_s = time.monotonic()
        self._lives.pop(name).close()


async def _ended(lives: Mapping[str, Life]) -> None:
    """Wait for workers that were told to end.

    Raises:
        FatalError: one did not end, or with another code than 0.
    """
    try:
        for name, life in lives.items():
            give_up_s = time.monotonic() + KILL_AFTER_S
            while life.process.poll() is None and time.monotonic() < give_up_s:  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(LOOK_S)
            if (code := life.process.poll()) != 0:
                raise FatalError(
                    f"worker {name} was told to end and has code {code} after "
                    f"{KILL_AFTER_S:.0f} s, expected 0: {life.last_line()}"
                )
    finally:
        for life in lives.values():
            life.process.kill()
            life.process.wait()
            life.close()
