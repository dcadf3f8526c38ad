"""Workers killed at random times under load: nothing lost, repeats equal, features bit for bit.

`SEEDS` in the environment asks for more runs (`make chaos SEEDS=20`).
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from chaos.campaign import Kind, Outcome, make_plan, run_plan

SEEDS = int(os.environ.get("SEEDS", "4"))

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_any_worker_any_time(seed, report, tmp_path, kafka_url, own_store) -> None:
    """The ledger of a fault-free run; every fifth seed has two workers of one stage."""
    kind: Kind = "rebalance" if seed % 5 == 3 else "kill"
    outcome = asyncio.run(run_plan(make_plan(seed, kind), tmp_path, kafka_url, own_store))

    report.append(facts(outcome))
    assert outcome.breaches == []


@pytest.mark.parametrize("seed", range(max(1, SEEDS // 5)))
def test_the_store_lost_as_well(seed, report, tmp_path, kafka_url, own_store) -> None:
    """The store emptied under running and dead workers: state comes back from the log, unflagged.

    Features bit for bit as before; repeats reach back to the group's last commit.
    """
    plan = make_plan(seed, "store lost")
    outcome = asyncio.run(run_plan(plan, tmp_path, kafka_url, own_store))

    report.append(facts(outcome))
    assert outcome.breaches == []


@pytest.mark.parametrize("seed", range(SEEDS // 5))
def test_a_worker_that_wakes_up_late(seed, report, tmp_path, kafka_url, own_store) -> None:
    """Paused for longer than its session, then going on with a batch that is another's by now."""
    plan = make_plan(seed, "pause")
    outcome = asyncio.run(run_plan(plan, tmp_path, kafka_url, own_store))

    report.append(facts(outcome))
    assert outcome.breaches == []


@pytest.mark.parametrize("kind", ["kill", "rebalance", "store lost", "pause"])
@pytest.mark.parametrize("seed", range(max(1, SEEDS // 5)))
def test_exactly_once(seed, kind: Kind, report, tmp_path, kafka_url, own_store) -> None:
    """By transactions nothing is doubled either: blocks, predictions, dead letters, summaries.

    For a reader of committed records, and with every other promise kept as above.
    """
    plan = make_plan(seed, kind)
    outcome = asyncio.run(run_plan(plan, tmp_path, kafka_url, own_store, "exactly-once"))

    report.append(facts(outcome) | {"kind": f"{kind}, once"})
    assert outcome.breaches == []


def facts(outcome: Outcome) -> dict[str, Any]:
    """One row of the campaign's table."""
    found, plan = outcome.found, outcome.plan
    stretches = [
        s.last - s.first + 1 for s in (*found.features.stretches, *found.predictions.stretches)
    ]
    return {
        "seed": plan.seed,
        "kind": plan.kind,
        "kills": plan.kills().total(),
        "events": len(found.predictions.first),
        "lost": len(outcome.load.places("valid").keys() - found.predictions.first.keys()),
        "repeated predictions": found.predictions.repeats,
        "repeated rows": found.features.repeats,
        "repeated dead or late": found.dead.repeats + found.late.repeats,
        "differing": len(found.predictions.differing) + len(found.features.differing),
        "longest repeat": max(stretches, default=0),
        "after the consumer": outcome.consumed_twice,
        "aborted": outcome.aborted,
        "breaches": len(outcome.breaches),
        "seconds": round(outcome.seconds, 1),
    }
