"""One process per stage: start them, watch them, restart what crashes, stop them together."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from headrace.schemas.errors import FatalError
from headrace.schemas.settings import WorkerSettings
from headrace.streams.workers.jobs import Endpoints, Status
from headrace.streams.workers.spawned import Spawned, spawned
from headrace.streams.workers.spawning import WORKER, Spawner

log = logging.getLogger("headrace.supervisor")

EXIT_FATAL = 2
"""Exit code of a worker that must not be restarted: configuration, contract or code is wrong."""

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
# A worker that ran this long had recovered: its next crash starts the pauses anew.
HEALTHY_S = 60.0
# A status line tells of every partition, in about 130 bytes each.
LONGEST_LINE_BYTES = 4 << 20
KILL_AFTER_S = 20.0
"""Above what a worker takes at most to end, with the usual `worker.shutdown_s` for its open
batches; below the 30 s a platform commonly grants."""

KILLED_S = 2.0


@dataclass(slots=True)
class Worker:
    """One stage's process.

    Attributes:
        name: ``stage`` or ``stage-2``, after the prefix that tells pipelines apart.
        command: How it is started.
        status: Its last status line.
        process: The running process.
        restarts: How often it was started again.
        ending: Why it was told to end, to be started again; None unless it was.
    """

    name: str
    command: list[str]
    status: Status | None = None
    process: Spawned | None = None
    restarts: int = 0
    ending: str | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def stage(self) -> str:
        """Its stage."""
        return self.command[3]

    @property
    def running(self) -> bool:
        """Its process was started and has not ended."""
        return self.process is not None and self.process.returncode is None


class Supervisor:
    """Workers of one pipeline on this machine.

    Workers are started before the services are up, so that their imports and model checks run
    meanwhile; `connect` then tells them where to go, and `begin` to join their groups. A worker
    ends when its standard input is closed, also when this process is killed: nothing is left
    behind.

    Args:
        pipeline: Pipeline file.
        stages: Stages to run, one process each and workers of each.
        workers: Processes of each stage.
        on_status: Told of every status line.
        prefix: Put before the workers' names in lines and facts.
        spawner: Starts the workers; None is one of our own, which ends with us.
    """

    def __init__(
        self,
        pipeline: Path,
        stages: Sequence[str],
        *,
        workers: int = 1,
        on_status: Callable[[Status], None] | None = None,
        prefix: str = "",
        spawner: Spawner | None = None,
    ) -> None:
        self._spawner = spawner or Spawner()
        self._owns_spawner = spawner is None
        self._endpoints: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._begun: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._more_s = 0.0
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.told: list[Callable[[Worker, Status], None]] = []
        """Called with every status line, and of which worker."""
        if on_status is not None:
            self.told.append(lambda _, status: on_status(status))
        self._stopping = asyncio.Event()
        self.workers = [
            Worker(
                prefix + (stage if number == 1 else f"{stage}-{number}"),
                [*WORKER, stage, str(pipeline)],
            )
            for stage in stages
            for number in range(1, workers + 1)
        ]

    def start(self) -> None:
        """Start every worker."""
        self._spawner.start()
        for worker in self.workers:
            worker.tasks = [asyncio.create_task(self._keep(worker), name=worker.name)]

    def connect(self, endpoints: Endpoints) -> None:
        """Tell the workers where bus and store are; they begin at once unless told to hold."""
        self._more_s = max(0.0, endpoints.shutdown_s - WorkerSettings().shutdown_s)
        self._endpoints.set_result(msgspec.json.encode(endpoints) + b"\n")

    @property
    def _kill_after_s(self) -> float:
        """How long a worker gets to end, seconds: more where its open batches get more."""
        return KILL_AFTER_S + self._more_s

    def begin(self) -> None:
        """Have workers that hold join their groups."""
        self._begun.set_result(b"\n")

    async def failed(self) -> None:
        """Wait until a worker ends for good.

        Raises:
            FatalError: with the worker's own last line.
        """
        # Shielded: cancelling one who waits must not cancel what everybody waits for.
        await asyncio.shield(self._failed)

    async def ready(self) -> None:
        """Wait until every worker says it is ready."""
        while not all(w.status is not None and w.status.ready for w in self.workers):
            if self._failed.done():
                await self._failed
            await asyncio.sleep(0.02)

    def restart(self, worker: Worker, why: str) -> None:
        """End a worker and start it again: told to end first, killed after `KILL_AFTER_S`.

        Told so, it finishes what it can and leaves its group, and other workers take its partitions
        at once rather than after the session's timeout. Nothing is lost either way.

        Args:
            worker: One of ours.
            why: One line for the log.
        """
        if worker.ending is None and worker.running and not self._stopping.is_set():
            worker.ending = why
            worker.tasks.append(asyncio.create_task(self._end(worker)))

    def give_up(self, error: FatalError) -> None:
        """Make `failed` raise; the first error wins."""
        if not self._failed.done():
            self._failed.set_exception(error)

    async def _end(self, worker: Worker) -> None:
        process = worker.process
        if process is None:
            return
        process.close()
        try:
            async with asyncio.timeout(self._kill_after_s):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def stop(self) -> None:
        """End every worker in order: input closed, batches in hand finished, then killed."""
        self._stopping.set()
        for line in (self._endpoints, self._begun):
            line.cancel()  # harmless where it was told
        for worker in self.workers:
            if worker.process is not None:
                worker.process.close()
        tasks = [task for worker in self.workers for task in worker.tasks]
        limit_s = self._kill_after_s
        _, late = await asyncio.wait(tasks, timeout=limit_s) if tasks else (None, set())
        for worker in self.workers:
            if worker.process is not None and worker.process.returncode is None:
                log.warning("worker %s did not stop in %.0f s and is killed", worker.name, limit_s)
                worker.process.kill()
        await self._gone(late)
        if self._owns_spawner:
            self._spawner.stop()
        if self._failed.done() and not self._failed.cancelled():
            self._failed.exception()

    async def _gone(self, late: set[asyncio.Task[None]]) -> None:
        """Wait for the ends of what was killed; not for ever, be one not even forked yet."""
        if late:
            _, held = await asyncio.wait(late, timeout=KILLED_S)
            for task in held:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _keep(self, worker: Worker) -> None:
        """A task boundary: a worker that nobody looks after any more ends everything."""
        try:
            await self._kept(worker)
        except Exception as error:
            log.exception("%s is not looked after any more", worker.name)
            why = f"{type(error).__name__} while looking after it; please report the lines above"
            self.give_up(FatalError(f"worker {worker.name}: {why}"))
            await self._end(worker)

    async def _kept(self, worker: Worker) -> None:
        """Run one worker, again after each crash."""
        pause_s = FIRST_PAUSE_S
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            began = loop.time()
            try:
                code, why = await self._run(worker)
            except OSError as error:  # no memory or no file descriptor for it now
                code, why = 1, f"it could not be started ({error.strerror or error})"
            asked, worker.ending = worker.ending, None
            if self._stopping.is_set():
                return
            if code == EXIT_FATAL or (code == 0 and asked is None):
                why = why or f"it ended with code {code} before it was told to"
                self.give_up(FatalError(f"worker {worker.name}: {why}"))
                return
            why = asked or why
            pause_s = FIRST_PAUSE_S if loop.time() - began > HEALTHY_S else pause_s
            log.error(
                "worker %s ended with code %d and is started again in %.1f s: %s",
                worker.name, code, pause_s, why,
            )  # fmt: skip
            if await self._stopped_within(pause_s):
                return
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            worker.restarts += 1

    async def _stopped_within(self, seconds: float) -> bool:
        """Wait so long, or until told to stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        return self._stopping.is_set()

    async def _run(self, worker: Worker) -> tuple[int, str]:
        """One life of a worker: its exit code and why it ended, as far as it said so."""
        worker.status = None
        environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
        process = await spawned(self._spawner, worker.command, environ, limit=LONGEST_LINE_BYTES)
        worker.process = process
        if self._stopping.is_set():
            process.close()  # told to stop while it was being started: nobody else tells it
        errors = asyncio.create_task(self._errors(worker.name, process.stderr))
        connect = asyncio.create_task(self._tell(process))
        try:
            await self._statuses(worker, process.stdout)
            why = await errors
            if worker.status is not None and worker.status.error:
                why = worker.status.error
            return await process.wait(), why
        finally:
            connect.cancel()
            errors.cancel()
            process.close()

    async def _tell(self, process: Spawned) -> None:
        for line in (self._endpoints, self._begun):
            process.tell(await asyncio.shield(line))

    async def _statuses(self, worker: Worker, lines: asyncio.StreamReader) -> None:
        while line := await lines.readline():
            try:
                worker.status = msgspec.json.decode(line, type=Status)
            except msgspec.DecodeError:
                log.info("%s: %s", worker.name, line.decode(errors="replace").rstrip())
                continue
            for tell in self.told:
                tell(worker, worker.status)

    async def _errors(self, name: str, lines: asyncio.StreamReader) -> str:
        """Pass the worker's lines on; its last."""
        last = ""
        while line := await lines.readline():
            last = line.decode(errors="replace").rstrip()
            log.warning("%s: %s", name, last, extra={"relayed": True})
        return last
