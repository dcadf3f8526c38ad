"""The health of everything that one `up` runs: workers watched, bus and store asked."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from headrace.schemas.errors import FatalError
from headrace.streams.health.announce import Announcer
from headrace.streams.health.budget import MOST, WITHIN_S, RestartBudget
from headrace.streams.health.dependencies import Dependencies
from headrace.streams.health.verdict import TROUBLE, Kind, Limits, Verdict
from headrace.streams.health.watchdog import Watchdog
from headrace.streams.observe.canary_book import CanaryBook
from headrace.streams.workers.jobs import BESIDE, Endpoints, Status
from headrace.streams.workers.supervisor import Supervisor, Worker

log = logging.getLogger("headrace.health")

LOOK_S = 0.5
# The first prediction comes before the first question to bus and store.
SETTLE_S = 5.0
STARTING = Verdict(Kind.STARTING)


@dataclass(slots=True)
class Watched:
    """One worker over all its lives.

    Attributes:
        worker: The worker.
        watchdog: Of this life.
        beside: Of the stage beside it, in this life.
        announcer: What was said of it.
        budget: How often it may be started again.
        life: Number of this life.
        seen: The last status line looked at.
        beside_verdict: How the stage beside it is.
        verdict: How it is; where it is well, how that stage is.
    """

    worker: Worker
    watchdog: Watchdog
    beside: Watchdog
    announcer: Announcer
    budget: RestartBudget = field(default_factory=RestartBudget)
    life: int = 0
    seen: Status | None = None
    beside_verdict: Verdict = STARTING
    verdict: Verdict = STARTING


class SiteHealth:
    """Judges every worker twice a second, starts those again that are stuck, and answers probes.

    Args:
        supervisor: Whose workers.
        limits: When a worker is stuck.
        pipeline: Pipeline name.
    """

    def __init__(self, supervisor: Supervisor, limits: Limits, pipeline: str) -> None:
        self._supervisor = supervisor
        self._limits = limits
        self._pipeline = pipeline
        self._dependencies = Dependencies()
        self.canary: CanaryBook | None = None
        """What became of probes, where any are sent."""
        self._watched = [
            Watched(worker, *_watchdogs(worker, limits), Announcer(worker.name))
            for worker in supervisor.workers
        ]

    async def watch(self, endpoints: Endpoints) -> None:
        """Watch until cancelled.

        Args:
            endpoints: Where bus and store are.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_on())
            group.create_task(self._ask_on(endpoints))

    async def _look_on(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for watched in self._watched:
                self._look(watched, loop.time())
            await asyncio.sleep(LOOK_S)

    async def _ask_on(self, endpoints: Endpoints) -> None:
        with suppress(TimeoutError, FatalError):
            async with asyncio.timeout(SETTLE_S):
                await self._supervisor.ready()
        await self._dependencies.watch(endpoints, self._pipeline)

    def _look(self, watched: Watched, now_s: float) -> None:
        """One worker, now."""
        worker = watched.worker
        if worker.restarts != watched.life:
            watched.life = worker.restarts
            watched.watchdog, watched.beside = _watchdogs(worker, self._limits)
        if not worker.running:
            watched.verdict = watched.beside_verdict = STARTING
            return
        new = worker.status if worker.status is not watched.seen else None
        watched.seen = worker.status
        away = self._dependencies.away
        watched.verdict = watched.watchdog.observe(now_s, new, away=away)
        if new is not None and new.beside is not None:
            watched.beside_verdict = watched.beside.observe(now_s, new.beside, away=away)
        if watched.verdict.kind not in TROUBLE and watched.beside_verdict.kind in TROUBLE:
            watched.verdict = watched.beside_verdict
        if worker.ending is not None:
            return
        if (line := watched.announcer.line(now_s, watched.verdict)) is not None:
            log.warning("%s", line)
        if watched.verdict.restart:
            self._start_again(watched, now_s)

    def _start_again(self, watched: Watched, now_s: float) -> None:
        line = watched.verdict.line
        if watched.budget.spend(now_s):
            self._supervisor.restart(watched.worker, line)
            return
        self._supervisor.give_up(
            FatalError(
                f"worker {watched.worker.name} was started again {MOST} times within "
                f"{WITHIN_S / 60:g} min and does not get on: {line}; mend what that step needs, "
                f"then start again"
            )
        )

    # --- what the endpoints tell ----------------------------------------------------------------

    def not_live(self) -> list[str]:
        """Why this process or a worker is not alive, one line each; empty where all are."""
        dead = (Kind.STUCK, Kind.SILENT)
        return [w.verdict.line for w in self._watched if w.verdict.kind in dead]

    def not_ready(self) -> list[str]:
        """What keeps this site from working on new input, one line each; empty where nothing."""
        lines = [f"{name}: {why}" for name, why in self._dependencies.trouble.items() if why]
        for watched in self._watched:
            lines += _unready(watched)
        return lines if self.canary is None else [*lines, *self.canary.trouble()]

    def facts(self) -> dict[str, Any]:
        """Everything that is known, without content: ready to become JSON."""
        return {
            "pipeline": self._pipeline,
            "live": not self.not_live(),
            "ready": not self.not_ready(),
            "reasons": self.not_ready(),
            "bus": self._dependencies.trouble["bus"] or "answers",
            "store": self._dependencies.trouble["store"] or "answers",
            "workers": [_facts(watched) for watched in self._watched],
            "canary": None if self.canary is None else self.canary.facts(),
        }


def _watchdogs(worker: Worker, limits: Limits) -> tuple[Watchdog, Watchdog]:
    """Of a worker's own stage, and of the one beside it."""
    beside = BESIDE.get(worker.stage, "none")
    return Watchdog(worker.name, limits), Watchdog(f"{worker.name}/{beside}", limits)


def _unready(watched: Watched) -> list[str]:
    """What keeps one worker from working on new input."""
    worker, status = watched.worker, watched.worker.status
    if not worker.running:
        return [f"{worker.name} is not running; it is started again"]
    if worker.ending is not None:
        return [f"{worker.name} is being started again: {worker.ending}"]
    if status is None and worker.stage == "serve":
        return [f"model: {worker.name} is loading and checking it"]
    if status is None:
        return [f"{worker.name} is starting"]
    if watched.verdict.kind in (Kind.STUCK, Kind.SILENT, Kind.WAITING):
        return [watched.verdict.line]
    taking = [p.partition for p in status.partitions if not p.taken_over]
    if taking:
        return [f"takeover of {status.topic}[{number}] by {worker.name}" for number in taking]
    if not status.ready:
        return [f"takeover: {worker.name} has not got its share of the group yet"]
    return []


def _memory(status: Status) -> dict[str, Any]:
    """What a worker holds, against what it may hold."""
    return {
        "rss_mb": round(status.rss_mb, 1),
        "held_bytes": status.held_bytes,
        "held_limit_bytes": status.held_limit_bytes,
        "state": msgspec.to_builtins(status.state),
    }


def _summaries(status: Status) -> dict[str, Any] | None:
    """What the finaliser holds, and which partition summaries wait for, where it has its share."""
    if status.state is None or not status.partitions:
        return None
    worst = status.state.furthest_behind
    return {
        "held_bytes": status.state.bytes,
        "waits_for": None if worst is None else int(worst[0]),
        "behind_s": 0.0 if worst is None else worst[1],
    }


def _facts(watched: Watched) -> dict[str, Any]:
    """One worker; each partition with how long it has not got on."""
    worker, status, verdict = watched.worker, watched.worker.status, watched.verdict
    return {
        "worker": worker.name,
        "stage": worker.stage,
        "running": worker.running,
        "restarts": worker.restarts,
        "verdict": verdict.kind,
        "why": verdict.line,
        "ready": status is not None and status.ready,
        "lag": status.lag if status else None,
        "memory": _memory(status) if status else None,
        "summaries": _summaries(status.beside) if status and status.beside else None,
        "topic": status.topic if status else None,
        "partitions": [
            {
                **{name: getattr(part, name) for name in part.__struct_fields__},
                "still_s": round(watched.watchdog.still_s(part.partition), 1),
            }
            for part in (status.partitions if status else ())
        ],
    }
