"""Workers struck at random times and at named steps: nothing lost, repeats equal, bit for bit.

`SEEDS` in the environment asks for more runs (`make chaos SEEDS=20`).
"""

from __future__ import annotations

import asyncio
import os
import uuid
from pathlib import Path
from typing import Any

import pytest
from chaos.pipelines import make_target

from headrace.streams.drill.campaign import Outcome, run_plan
from headrace.streams.drill.kinds import Kind
from headrace.streams.drill.schedule import Plan, make_plan
from headrace.streams.drill.services import Services

SEEDS = int(os.environ.get("SEEDS", "2"))
EVENTS = 36_000

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_any_worker_any_time(seed, report, tmp_path, services) -> None:
    """Killed at random times and at crash points; every fifth seed has two workers of one stage."""
    kinds: list[Kind] = ["kill", "rebalance"] if seed % 5 == 3 else ["kill"]
    outcome = drilled(make_plan(seed, kinds, kills=4), tmp_path, services)

    report(facts(outcome))
    assert_as_promised(outcome)


@pytest.mark.parametrize("seed", range(max(1, SEEDS // 5)))
def test_the_store_lost_as_well(seed, report, tmp_path, services) -> None:
    """The store emptied under running and dead workers: state comes back from the log, unflagged.

    Features bit for bit as before; repeats reach back to the group's last commit.
    """
    outcome = drilled(make_plan(seed, ["store-lost"], kills=0, others=3), tmp_path, services)

    report(facts(outcome))
    assert_as_promised(outcome)


@pytest.mark.parametrize("seed", range(max(1, SEEDS // 5)))
def test_the_store_killed_under_load(seed, report, tmp_path, services) -> None:
    """It comes back with what it had written to its file: up to a second of checkpoints is gone."""
    outcome = drilled(make_plan(seed, ["store-restart"], kills=0, others=3), tmp_path, services)

    report(facts(outcome))
    assert_as_promised(outcome)


@pytest.mark.parametrize("seed", range(SEEDS // 5))
def test_a_worker_that_wakes_up_late(seed, report, tmp_path, services) -> None:
    """Paused for longer than its session, then going on with a batch that is another's by now."""
    outcome = drilled(make_plan(seed, ["pause"], kills=0, others=3), tmp_path, services)

    report(facts(outcome))
    assert_as_promised(outcome)


@pytest.mark.parametrize("kind", ["kill", "rebalance", "store-lost", "pause"])
@pytest.mark.parametrize("seed", range(max(1, SEEDS // 5)))
def test_exactly_once(seed, kind: Kind, report, tmp_path, services) -> None:
    """By transactions nothing is there twice either: blocks, predictions, dead letters, summaries.

    For a reader of committed records, and with every other promise kept as above.
    """
    plan = make_plan(seed, [kind], kills=4 if kind == "kill" else 0, others=3)
    outcome = drilled(plan, tmp_path, services, mode="exactly-once")

    row = facts(outcome)
    report(row | {"faults": f"{row['faults']}, once"})
    assert_as_promised(outcome)
    assert outcome.tally.repeated == 0


def drilled(
    plan: Plan, folder: Path, services: Services, *, mode: str = "at-least-once"
) -> Outcome:
    """One run of a plan on the tests' pipeline, and its fault-free run."""
    name, places = f"kill-{uuid.uuid4().hex[:8]}", services.endpoints
    target = make_target(folder, name, places.bus.url, places.store.url, mode=mode)
    telemetry = target.topics.telemetry.name
    calm = make_target(
        folder, f"calm-{name}", places.bus.url, places.store.url, telemetry=telemetry
    )
    return asyncio.run(run_plan(plan, target, calm, services, least_events=EVENTS))


def assert_as_promised(outcome: Outcome) -> None:
    """Not a breach; every crash point was met, and nothing ended but what was killed."""
    assert outcome.breaches == []
    assert [struck.fault.points for struck in outcome.struck if not struck.reached] == []
    assert outcome.crashes.total() == 0


def facts(outcome: Outcome) -> dict[str, Any]:
    """One row of the campaign's table."""
    found, plan, tally = outcome.found, outcome.plan, outcome.tally
    stretches = [
        s.last - s.first + 1 for s in (*found.features.stretches, *found.predictions.stretches)
    ]
    return {
        "seed": plan.seed,
        "faults": "+".join(sorted({fault.kind for fault in plan.faults})),
        "kills": plan.kills().total(),
        "events": len(found.predictions.first),
        "lost": tally.lost,
        "repeated predictions": found.predictions.repeats,
        "repeated rows": found.features.repeats,
        "repeated dead or late": found.dead.repeats + found.late.repeats,
        "differing": tally.differing,
        "out of order": tally.out_of_order,
        "longest repeat": max(stretches, default=0),
        "after the consumer": outcome.doubled,
        "slowest recovery s": round(max((s.recovered_s or 0.0) for s in outcome.struck), 1),
        "breaches": len(outcome.breaches),
    }
