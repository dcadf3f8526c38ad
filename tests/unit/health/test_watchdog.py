"""The watchdog tells rest, work, waiting, slowness and standstill apart, and says where and why."""

from __future__ import annotations

import pytest

from headrace.streams.health.verdict import Kind, Limits, Verdict
from headrace.streams.health.watchdog import LONGEST_LOOK_S, Watchdog
from headrace.streams.workers.jobs import PartitionStatus, Status

LIMITS = Limits()
TOPIC = "headrace.press.telemetry.v1"


def status(*parts: PartitionStatus, **more: object) -> Status:
    """A status line of ENRICH."""
    lag = sum(part.lag for part in parts)
    facts = {"ready": True, "lag": lag, "topic": TOPIC, **more}
    return Status(stage="enrich", partitions=parts, **facts)


def part(partition: int = 3, **facts: object) -> PartitionStatus:
    """Partition 3 of its topic."""
    return PartitionStatus(partition=partition, **facts)


class Watch:
    """A watchdog and its clock; two looks a second."""

    def __init__(self) -> None:
        self.dog = Watchdog("enrich", LIMITS)
        self.now_s = 100.0

    def see(
        self, line: Status | None, *, for_s: float = 0.5, away: tuple[str, ...] = ()
    ) -> Verdict:
        """The verdict after the same line was seen for a while."""
        for _ in range(round(for_s / 0.5)):
            self.now_s += 0.5
            verdict = self.dog.observe(self.now_s, line, away=away)
        return verdict


def test_no_input_is_rest_however_long():
    """Lag 0 and nothing in hand for an hour is idle."""
    watch = Watch()

    assert watch.see(status(part(position=7)), for_s=3600).kind is Kind.IDLE


def test_lag_that_moves_is_work():
    """The position moves: working, also when the lag does not fall."""
    watch = Watch()
    kinds = {watch.see(status(part(position=n, lag=50))).kind for n in range(400)}

    assert kinds == {Kind.WORKING}


def test_one_partition_of_many_is_enough_to_be_stuck():
    """Three work, one does not: stuck after the limit, with everything one needs to look."""
    watch = Watch()
    for n in range(62):
        at = part(3, position=8812, lag=40, in_flight=2, step="publish", step_s=n / 2)
        verdict = watch.see(status(at, *(part(p, position=n, lag=5) for p in (0, 1, 2))))

    assert verdict.kind is Kind.STUCK
    assert not verdict.restart
    assert verdict.line == (
        "enrich is stuck: headrace.press.telemetry.v1[3]@8812 has made no progress for 30 s "
        "(step publish for 30 s, 40 records behind, 2 batches open), expected some within 30 s; "
        "it is started again after 120 s"
    )


@pytest.mark.parametrize(
    "facts",
    [{"lag": 1}, {"in_flight": 1}, {"step": "checkpoint"}, {"step": "takeover"}],
    ids=["lag", "in flight", "step", "takeover"],
)
def test_what_must_move_and_does_not_is_stuck(facts):
    """Records behind, a batch open or a step in hand: each must get on."""
    watch = Watch()
    line = status(part(taken_over=facts.get("step") != "takeover", **facts))

    assert watch.see(line, for_s=29.5).kind is Kind.WORKING
    assert watch.see(line, for_s=1.0).kind is Kind.STUCK


def test_restart_is_asked_for_at_its_time():
    """Stuck for two minutes: time to start it again, not before."""
    watch = Watch()
    line = status(part(lag=1))

    assert not watch.see(line, for_s=119.5).restart
    assert watch.see(line, for_s=1.0).restart


def test_progress_ends_it():
    """One step forward, and the clock begins anew."""
    watch = Watch()
    watch.see(status(part(lag=9, position=1)), for_s=100)

    assert watch.see(status(part(lag=9, position=2))).kind is Kind.WORKING
    assert watch.see(status(part(lag=9, position=2)), for_s=29).kind is Kind.WORKING


def test_a_long_replay_is_progress():
    """A takeover that folds events again moves no position, but it gets on."""
    watch = Watch()
    line = part(step="takeover", taken_over=False)
    kinds = {watch.see(status(line, replayed=n)).kind for n in range(1000)}

    assert kinds == {Kind.WORKING}
    assert watch.see(status(line, replayed=999), for_s=31).kind is Kind.STUCK


def test_replays_excuse_only_takeovers():
    """Another partition's replay does not hide that this one stands still."""
    watch = Watch()
    for n in range(70):
        lines = (part(1, step="takeover", taken_over=False), part(3, lag=4))
        verdict = watch.see(status(*lines, replayed=n))

    assert verdict.kind is Kind.STUCK
    assert f"{TOPIC}[3]" in verdict.line


@pytest.mark.parametrize("name", ["bus", "store"])
def test_a_dependency_that_is_away_is_waited_for(name):
    """Waiting for an hour asks for no restart, which would mend nothing; it names what is away."""
    watch = Watch()
    verdict = watch.see(status(part(lag=4, step="publish")), for_s=3600, away=(name,))

    assert verdict.kind is Kind.WAITING
    assert not verdict.restart
    assert verdict.line.startswith(f"enrich waits for the {name}: {TOPIC}[3]@0 ")


def test_repeated_steps_are_waiting_too():
    """A store that answers probes and refuses writes shows in the lane's retries."""
    watch = Watch()
    for n in range(2400):
        retries = {"store.unavailable": 1 + n // 10}  # one every five seconds
        verdict = watch.see(status(part(lag=4, step="checkpoint"), retries=retries))

    assert verdict.kind is Kind.WAITING
    assert "waits for the store" in verdict.line


def test_the_time_away_does_not_count():
    """Back after an hour, the stage gets the whole limit again."""
    watch = Watch()
    line = status(part(lag=4, step="publish"))
    watch.see(line, for_s=3600, away=("bus",))

    assert watch.see(line, for_s=29).kind is Kind.WORKING
    assert watch.see(line, for_s=2).kind is Kind.STUCK


def test_an_idle_stage_waits_for_nothing():
    """The store is away and nobody needs it: idle. Its absence is told by the probe."""
    assert Watch().see(status(part()), for_s=60, away=("store",)).kind is Kind.IDLE


def test_silence_is_a_hang():
    """No line for five seconds; a restart after two minutes of it."""
    watch = Watch()
    watch.see(status(part(lag=4)))

    assert watch.see(None, for_s=4.5).kind is Kind.WORKING
    silent = watch.see(None, for_s=1.0)
    assert silent.kind is Kind.SILENT
    assert silent.line.startswith("enrich is silent: no status line for 6 s, expected two a second")
    assert watch.see(None, for_s=115).restart
    assert watch.see(status(part(lag=3))).kind is Kind.WORKING


def test_a_process_that_never_spoke_is_starting():
    """Imports, the model's check and the wait for services come before the first line."""
    assert Watch().see(None, for_s=600).kind is Kind.STARTING


def test_time_nobody_looked_does_not_count():
    """The machine slept for an hour between two looks: nothing is concluded from it."""
    watch = Watch()
    watch.see(status(part(lag=4)))
    watch.now_s += 3600

    assert watch.see(None).kind is Kind.WORKING
    watch.now_s += 3600
    assert watch.see(status(part(lag=4))).kind is Kind.WORKING
    assert LIMITS.silent_after_s > LONGEST_LOOK_S


def test_a_growing_backlog_is_slow():
    """Records are done, more come, for over a minute: slow, with the worst partition and pace."""
    watch = Watch()
    for n in range(200):
        parts = (part(0, position=50 * n, lag=10 * n), part(3, position=50 * n, lag=20 * n))
        verdict = watch.see(status(*parts))

    assert verdict.kind is Kind.SLOW
    assert not verdict.restart
    assert verdict.line == (
        "enrich is slow: 5970 records behind and more for 80 s, at 200 records/s, most of them "
        f"(3980) at {TOPIC}[3]@9950; add a worker, or see which step takes long"
    )


def test_a_partition_that_goes_away_is_forgotten():
    """Another worker has it now: what it did not do there is not our standstill."""
    watch = Watch()
    watch.see(status(part(lag=4), part(1)), for_s=40)

    assert watch.see(status(part(1))).kind is Kind.IDLE
    assert watch.see(status(part(lag=4), part(1))).kind is Kind.WORKING


def test_a_worker_without_a_share_rests():
    """More workers than partitions: ready, with nothing to do."""
    assert Watch().see(status(), for_s=600).kind is Kind.IDLE


def test_not_in_its_group_yet():
    """Not ready and without partitions is starting."""
    assert Watch().see(status(ready=False), for_s=600).kind is Kind.STARTING
