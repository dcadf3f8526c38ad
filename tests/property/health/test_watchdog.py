"""The watchdog against a plain re-reading of everything it saw, and its lines against a flood."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from headrace.streams.health.announce import QUIET_S, Announcer
from headrace.streams.health.backlog import SLOT_S, Backlog
from headrace.streams.health.budget import MOST, WITHIN_S, RestartBudget
from headrace.streams.health.verdict import TROUBLE, Kind, Limits, Verdict
from headrace.streams.health.watchdog import LONGEST_LOOK_S, Watchdog
from headrace.streams.workers.jobs import PartitionStatus, Status

LIMITS = Limits(stuck_after_s=6.0, stuck_restart_s=15.0, silent_after_s=3.0, waiting_after_s=2.0)


@dataclass(frozen=True)
class Look:
    """One look: after how long, and what was there; position None is no status line."""

    after_s: float
    position: int | None
    lag: int
    away: bool


# Few values, so that runs of equal samples, the interesting thing, are common.
LOOKS = st.lists(
    st.builds(
        Look,
        after_s=st.sampled_from([0.5, 1.0, 1.0, 5.0]),
        position=st.sampled_from([None, 0, 0, 0, 0, 0, 1]),
        lag=st.sampled_from([2, 2, 2, 2, 2, 2, 1, 0]),
        away=st.sampled_from([False] * 9 + [True]),
    ),
    max_size=80,
)


def expected(looks: list[Look]) -> tuple[Kind, bool]:
    """Kind and restart after these looks, read off the whole history at once."""
    clock, heard = 0.0, []
    for number, look in enumerate(looks):
        clock += min(look.after_s, LONGEST_LOOK_S) if number else 0.0
        if look.position is not None:
            heard.append((clock, look))
    if not heard:
        return Kind.STARTING, False
    silent_s = clock - heard[-1][0]
    if silent_s >= LIMITS.silent_after_s:
        return Kind.SILENT, silent_s >= LIMITS.stuck_restart_s
    return of_a_busy_one(heard) if heard[-1][1].lag else (Kind.IDLE, False)


def of_a_busy_one(heard: list[tuple[float, Look]]) -> tuple[Kind, bool]:
    """The same for a partition with lag, from its status lines and their times."""
    at_s, last = heard[-1]
    moved_s = counted_s = heard[0][0]
    for (_, before), (time_s, now) in pairwise(heard):
        if now.position != before.position or now.lag < before.lag or now.lag == 0:
            moved_s = counted_s = time_s
        elif now.away:
            counted_s = time_s
    if last.away and at_s - moved_s >= LIMITS.waiting_after_s:
        return Kind.WAITING, False
    if at_s - counted_s >= LIMITS.stuck_after_s:
        return Kind.STUCK, at_s - counted_s >= LIMITS.stuck_restart_s
    return Kind.WORKING, False


@given(LOOKS)
def test_verdicts_are_those_of_the_whole_history(looks: list[Look]) -> None:
    """Look by look, the kind and the request to restart equal a re-reading from the start."""
    dog, now_s = Watchdog("enrich", LIMITS), 50.0
    for number, look in enumerate(looks, 1):
        now_s += look.after_s
        status = None
        if look.position is not None:
            part = PartitionStatus(partition=0, position=look.position, lag=look.lag)
            status = Status(stage="enrich", ready=True, lag=look.lag, partitions=(part,))
        verdict = dog.observe(now_s, status, away=("bus",) if look.away else ())

        assert (verdict.kind, verdict.restart) == expected(looks[:number])
        assert bool(verdict.line) == (verdict.kind in TROUBLE)


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 4.0]), st.sampled_from(Kind)), max_size=400))
def test_lines_are_few_and_never_repeat(steps: list[tuple[float, Kind]]) -> None:
    """However a stage flaps: one line per `QUIET_S`, never the same twice, none for a start."""
    announcer, now_s, told = Announcer("enrich"), 0.0, []
    for after_s, kind in steps:
        now_s += after_s
        line = announcer.line(now_s, Verdict(kind, f"in {kind}" if kind in TROUBLE else ""))
        if line is not None:
            told.append((now_s, kind if kind in TROUBLE else None))
            assert kind is not Kind.STARTING

    times = [at_s for at_s, _ in told]
    kinds = [None, *(kind for _, kind in told)]
    assert len(told) <= 1 + now_s / QUIET_S
    assert all(b - a >= QUIET_S for a, b in pairwise(times))
    assert all(a != b for a, b in pairwise(kinds))


@given(
    st.lists(st.tuples(st.sampled_from([0.1, 4.0]), st.sampled_from(Kind)), max_size=60),
    st.sampled_from(sorted(TROUBLE)),
)
def test_what_lasts_is_told(steps: list[tuple[float, Kind]], last: Kind) -> None:
    """After any flapping, a trouble that stays is the last thing told, and so is its end."""
    announcer, now_s, lines = Announcer("enrich"), 0.0, []

    def see(after_s: float, kind: Kind) -> None:
        nonlocal now_s
        now_s += after_s
        lines.append(announcer.line(now_s, Verdict(kind, f"in {kind}" if kind in TROUBLE else "")))

    for after_s, kind in steps:
        see(after_s, kind)
    for _ in range(2):
        see(QUIET_S / 2 + 1, last)
    assert [line for line in lines if line][-1] == f"in {last}"
    for _ in range(2):
        see(QUIET_S / 2 + 1, Kind.WORKING)
    assert [line for line in lines if line][-1] == f"enrich is working again, it was {last}"


@given(st.lists(st.sampled_from([1.0, 60.0, 120.0, 300.0, 599.0]), max_size=60))
def test_restarts_are_bounded_and_not_stingy(steps: list[float]) -> None:
    """Never more than three within ten minutes, and no refusal below that."""
    budget, now_s, granted = RestartBudget(), 0.0, []
    for after_s in steps:
        now_s += after_s
        recent = [at_s for at_s in granted if now_s - at_s < WITHIN_S]
        allowed = budget.spend(now_s)
        assert allowed == (len(recent) < MOST)
        if allowed:
            granted.append(now_s)


@given(
    st.lists(st.integers(0, 10_000), min_size=1, max_size=int(SLOT_S)), st.integers(1, 1_000_000)
)
# Looked at once a slot, this one would rise seven times in a row.
@example(cycle=[50, 30, 10, 60, 40, 20, 70], done=1)
def test_a_lag_that_comes_back_is_no_growth(cycle: list[int], done: int) -> None:
    """Any lag that repeats within a slot, however high and wild, is never growing."""
    backlog = Backlog()
    for second in range(300):
        assert backlog.observe(second, lag=cycle[second % len(cycle)], done=done) == 0.0


@given(st.integers(1, 1000), st.integers(1, 100))
def test_a_lag_that_grows_is_told_and_forgotten(pace: int, share: int) -> None:
    """Over a second's work behind after a minute of growth; standing still for 20 s ends it."""
    backlog, lag = Backlog(), 0
    for second in range(100):
        lag += max(1, pace * share // 100)
        growing_s = backlog.observe(second, lag=lag, done=pace)
    assert (growing_s >= 60.0) == (lag > pace)

    for second in range(100, 121):
        growing_s = backlog.observe(second, lag=lag, done=pace)
    assert growing_s == 0.0
