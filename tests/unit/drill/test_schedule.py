"""A schedule is its seed's: same faults, all crash points, as many kills as asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.drill.crash_points import STEPS
from headrace.streams.drill.kinds import KINDS, TRAITS
from headrace.streams.drill.schedule import Fault, make_plan
from headrace.streams.workers.jobs import worker_of

kinds = st.lists(st.sampled_from(KINDS), min_size=1, unique=True)
seeds = st.integers(0, 2**32)


@given(seeds, kinds, st.integers(0, 40), st.integers(0, 4), st.floats(0, 600))
def test_the_same_seed_gives_the_same_faults(seed, kinds, kills, others, seconds) -> None:
    """Whatever the order in which the kinds are named."""
    plan = make_plan(seed, kinds, kills=kills, others=others, seconds=seconds)

    again = make_plan(seed, kinds[::-1], kills=kills, others=others, seconds=seconds)

    assert plan == again


@given(seeds, kinds, st.integers(0, 40), st.integers(0, 4))
def test_as_many_as_asked_for(seed, kinds, kills, others) -> None:
    """Kills are counted by worker; every other kind comes as often as it was asked for.

    A second worker that would keep the first from its point is killed with it, beyond the count.
    """
    plan = make_plan(seed, kinds, kills=kills, others=others)
    killed = sum((f.kills() for f in plan.faults if f.kind == "kill"), start=type(plan.kills())())
    beyond = sum(len(f.victims) - len(f.points) for f in plan.faults if f.points)

    assert killed.total() - beyond == (kills if "kill" in kinds else 0)
    assert beyond == 0 or "serve-2" in plan.workers
    assert list(plan.anew) == [k for k in KINDS if k in kinds and TRAITS[k].on == "log"]
    for kind in set(kinds) - {"kill", *plan.anew}:
        assert sum(fault.kind == kind for fault in plan.faults) == others


@given(seeds, kinds)
def test_every_crash_point_is_met(seed, kinds) -> None:
    """Twenty-six kills meet each step of each stage once."""
    plan = make_plan(seed, ["kill", *kinds], kills=26)
    points = [point.rpartition(":")[0] for fault in plan.faults for point in fault.points]

    assert sorted(points) == sorted(f"{s}:{step}" for s, steps in STEPS.items() for step in steps)


@given(seeds, kinds, st.integers(1, 40), st.floats(0, 600))
def test_faults_strike_what_is_there_and_in_time(seed, kinds, kills, seconds) -> None:
    """Victims are workers that run, in the order of their times, none later than asked for."""
    plan = make_plan(seed, kinds, kills=kills, seconds=seconds)
    due = [fault.due_s for fault in plan.faults]

    assert due == sorted(due)
    assert all(0 <= at <= seconds for at in due)
    assert all(set(fault.victims) <= set(plan.workers) for fault in plan.faults)
    assert all(fault.victims or TRAITS[fault.kind].on != "worker" for fault in plan.faults)


def test_seeds_differ() -> None:
    """Another seed is another schedule."""
    plans = {make_plan(seed, ["kill"], kills=6).faults for seed in range(20)}

    assert len(plans) == 20


def test_most_kills_strike_both_stages() -> None:
    """One life of either stage ends at a crash point at the same time as one of the other."""
    faults = [fault for seed in range(20) for fault in make_plan(seed, ["kill"], kills=26).faults]
    stages = [[worker_of(point.partition(":")[0]) for point in f.points] for f in faults]

    assert all(list(fault.victims) == at for fault, at in zip(faults, stages, strict=True))
    assert stages.count(["enrich", "serve"]) > stages.count(["enrich"]) > 0


def test_an_end_at_a_step_of_summarize_is_an_end_of_serve() -> None:
    """They are one process: SERVE may repeat the batch that it had in hand then as well."""
    fault = Fault("kill", 0.0, "any", 0.0, ("serve",), 0.0, ("summarize:publish:1",))

    assert fault.kills() == fault.repeats() == {"serve": 2}


def test_nobody_keeps_a_worker_from_a_step_of_summarize() -> None:
    """It has one partition: the second worker is down until the first one came so far."""
    plans = [make_plan(seed, ["kill", "rebalance"], kills=26) for seed in range(20)]
    faults = [(plan, fault) for plan in plans for fault in plan.faults if fault.points]
    struck = [
        fault.victims[len(fault.points) :] == ("serve-2",)
        for plan, fault in faults
        if "serve-2" in plan.workers and any(p.startswith("summarize") for p in fault.points)
    ]

    assert struck
    assert all(struck)
    assert sum(len(fault.victims) > len(fault.points) for _, fault in faults) == len(struck)


@pytest.mark.parametrize("kind", ["pause", "rebalance"])
def test_partitions_can_move(kind) -> None:
    """Where a worker stays away for long, another one of its stage is there."""
    assert len(make_plan(0, [kind], kills=0).workers) == 3


@given(seeds, kinds, st.integers(0, 20))
def test_a_lasting_run_never_ends_its_first_workers(seed, kinds, kills) -> None:
    """Both stages have two workers, and what ends one ends the second."""
    plan = make_plan(seed, kinds, kills=kills, lasting=True)
    ending = [f for f in plan.faults if TRAITS[f.kind].on == "worker" or f.kills()]

    assert plan.workers == ("enrich", "serve", "enrich-2", "serve-2")
    assert all(victim.endswith("-2") for fault in ending for victim in fault.victims)
    assert plan.kills().total() >= (kills if "kill" in kinds else 0)
