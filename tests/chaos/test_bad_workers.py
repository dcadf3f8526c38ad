"""The drill can fail: lanes that break a rule of delivery are found out, on the real path."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections import Counter
from pathlib import Path

import psutil
import pytest
from chaos import bad_workers
from chaos.pipelines import make_target

from headrace.streams.drill.campaign import Outcome, drained, in_peace, judge
from headrace.streams.drill.load import Fleet
from headrace.streams.drill.schedule import Fault, Plan
from headrace.streams.drill.services import Services
from headrace.streams.drill.workers import Workers
from headrace.streams.workers.jobs import STAGES

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(180)]

PAUSED = Plan(1, STAGES, (Fault("pause", 0, "any", 0, ("enrich",), 0),) * 2)
KILLED = Plan(1, STAGES, (Fault("kill", 0, "any", 0, ("enrich",), 0),) * 2)


class Scene:
    """A log that is there, workers that break a rule, and others that do not.

    Args:
        folder: For files.
        services: Bus and store.
        rule: What the first workers break.
        mode: Delivery mode.
    """

    def __init__(
        self, folder: Path, services: Services, rule: str, mode: str = "at-least-once"
    ) -> None:
        name = f"bad-{uuid.uuid4().hex[:8]}"
        urls = services.endpoints.bus.url, services.endpoints.store.url
        self.target = make_target(folder, name, *urls, mode=mode)
        telemetry = self.target.topics.telemetry.name
        self.calm = make_target(folder, f"calm-{name}", *urls, telemetry=telemetry)
        self.fleet = Fleet(self.target.pipeline, 1)
        self.bad = Workers(self.target, (sys.executable, bad_workers.__file__, rule))
        self.good = Workers(self.target)

    async def send(self, count: int) -> None:
        async with self.target.sender(self.fleet) as sender:
            await sender.send(count)

    async def verdict(self, plan: Plan) -> Outcome:
        """Finish with good workers; then the fault-free run, then the ledger."""
        await drained(self.target, self.good)
        await self.good.stop()
        await in_peace(self.calm)
        return await judge(plan, self.fleet.load, self.target, self.calm, [], Counter())

    def end(self) -> None:
        self.bad.end()
        self.good.end()


async def crashed(scene: Scene, point: str | None) -> Outcome:
    """Bad workers over a long log until the crash point, or their own; good ones take over."""
    await scene.target.prepare()
    await scene.send(9000)
    try:
        scene.bad.start("enrich", crash_at=point)
        assert await scene.bad.died("enrich", within_s=60)
        scene.good.start(*STAGES)
        return await scene.verdict(KILLED)
    finally:
        scene.end()


async def slept(scene: Scene) -> Outcome:
    """A worker sleeps over its session; another takes over; it wakes up; the other one dies."""
    await scene.target.prepare()
    await scene.send(9000)
    try:
        scene.bad.start("enrich")
        sleeper = psutil.Process(scene.bad._lives["enrich"].process.pid)
        give_up = time.monotonic() + 60
        while sleeper.status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < give_up
            await asyncio.sleep(0.05)
        scene.good.start(*STAGES)
        await drained(scene.target, scene.good)
        sleeper.resume()
        await scene.bad.died("enrich", within_s=3)
        scene.good.kill("enrich")
        scene.good.start("enrich")
        await scene.send(6000)
        return await scene.verdict(PAUSED)
    finally:
        scene.end()


@pytest.mark.parametrize(
    ("rule", "point"),
    [("ack before effect", "enrich:publish:3"), ("commit past an open batch", "enrich:publish:6")],
)
def test_offsets_committed_too_early_lose_events(rule, point, tmp_path, services) -> None:
    """What was acknowledged and not done is missing after the crash, and counted."""
    outcome = asyncio.run(crashed(Scene(tmp_path, services, rule), point))

    assert outcome.tally.lost > 0
    assert any("predictions:" in line and "lost" in line for line in outcome.breaches)


def test_a_checkpoint_without_a_fence_changes_features(tmp_path, services) -> None:
    """A worker that wakes up writes over its successor's state: features differ afterwards."""
    outcome = asyncio.run(slept(Scene(tmp_path, services, "unfenced checkpoint")))

    assert outcome.tally.differing > 0
    assert any("features:" in line and "differ" in line for line in outcome.breaches)


def test_outputs_apart_from_their_offset_are_there_twice(tmp_path, services) -> None:
    """Exactly-once by two transactions: a death between them publishes a batch again."""
    scene = Scene(tmp_path, services, "outputs apart from the offset", "exactly-once")
    outcome = asyncio.run(crashed(scene, None))

    assert outcome.tally.repeated > 0
    assert any("features:" in line and "there twice" in line for line in outcome.breaches)


@pytest.mark.parametrize("point", ["enrich:publish:3", "enrich:publish:6"])
def test_the_same_crash_of_a_sound_worker_is_no_breach(point, tmp_path, services) -> None:
    """So it is the broken rule that was found, not the crash."""
    outcome = asyncio.run(crashed(Scene(tmp_path, services, "none"), point))

    assert outcome.breaches == []


def test_the_same_sleep_of_a_sound_worker_is_no_breach(tmp_path, services) -> None:
    """A fenced checkpoint is refused, and its writer leaves."""
    outcome = asyncio.run(slept(Scene(tmp_path, services, "sleep")))

    assert outcome.breaches == []
