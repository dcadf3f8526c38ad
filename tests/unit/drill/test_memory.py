"""Memory that grows is told from memory that does not, whatever the samples' noise and number."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.drill.memory import FLAT_MB_PER_MIN, Memory, longest, slope

rates = st.floats(-5, 5)


def life(worker: str, minutes: int, mb_per_min: float, *, warm_mb: float = 30.0) -> Memory:
    """A worker that fills its caches within a minute, then grows at a rate, with noise."""
    found, rng = Memory(worker), random.Random(1)
    for second in range(minutes * 60):
        filled = min(1.0, second / 60) * warm_mb
        found.add(second, 100 + filled + mb_per_min * second / 60 + rng.uniform(-0.5, 0.5))
    return found


@given(st.lists(st.floats(0, 1e4), min_size=2, max_size=40, unique=True), rates, rates)
def test_a_line_has_its_slope(times, rate, begin) -> None:
    """Whatever points of it are known."""
    if max(times) - min(times) < 1:
        return
    found = slope([(x, begin + rate * x) for x in sorted(times)])

    assert abs(found - rate) < 1e-6


def test_growth_is_a_breach_and_warming_up_is_none() -> None:
    """Ten minutes, 30 MiB of caches at first."""
    assert life("serve", 10, 0.0).breach() is None
    assert life("serve", 10, FLAT_MB_PER_MIN * 0.8).breach() is None
    assert life("serve", 10, -3.0).breach() is None
    assert "memory of serve grew by" in str(life("serve", 10, FLAT_MB_PER_MIN * 1.2).breach())


def test_surges_are_no_growth() -> None:
    """Fifty MiB more for half of each minute, ever more of them: what stays is what counts."""
    found = Memory("serve")
    for second in range(600):
        found.add(second, 100.0 + (50.0 + second / 10 if second % 60 > 30 else 0.0))

    assert found.breach() is None
    assert found.facts()["floors_mb"] == [100.0] * 10
    assert found.facts()["most_mb"] > 200


def test_state_is_told_beside_it_and_is_no_breach() -> None:
    """Ids of a window that fills take memory that is due; what else grows with it is not."""
    due, more = Memory("enrich"), Memory("enrich")
    for second in range(600):
        state_mb = second / 10
        due.add(second, 100.0 + state_mb, state_mb)
        more.add(second, 100.0 + 2 * state_mb, state_mb)

    assert due.breach() is None
    assert due.facts()["slope_mb_per_min"] == 6.0
    assert due.facts()["state_mb"] == [6.0 * minute for minute in range(10)]
    assert "grew by 6.0 MiB a minute beside its state" in str(more.breach())


def test_one_step_in_the_first_half_is_no_growth() -> None:
    """As the backlog of a long outage leaves it; the same step in the second half is told."""
    early, late = Memory("serve"), Memory("serve")
    for second in range(480):
        early.add(second, 118.0 if second < 200 else 152.0)
        late.add(second, 118.0 if second < 360 else 152.0)

    assert early.breach() is None
    assert late.breach() is not None


def test_a_short_life_tells_nothing() -> None:
    """However steep."""
    assert life("serve", 5, 50.0).breach() is None


def test_each_worker_is_judged_by_its_longest_life() -> None:
    """One that was killed again and again has others."""
    lives = [life("serve", 2, 0), life("enrich", 1, 0), life("serve", 9, 0), Memory("enrich")]

    found = longest(lives)

    assert [(m.worker, round(m.age_s / 60)) for m in found] == [("enrich", 1), ("serve", 9)]
    assert found[1].facts()["minutes"] == 9.0
    assert found[1].facts()["most_mb"] < 131


def test_samples_are_no_closer_than_a_second() -> None:
    """Status lines come twice as often and more."""
    found = Memory("serve")
    for tick in range(100):
        found.add(tick / 20, 1.0)

    assert len(found.samples) == 5
