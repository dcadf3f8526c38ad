"""Tells a stage that rests from one that works, waits, falls behind or is stuck: pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from headrace.streams.health.backlog import Backlog
from headrace.streams.health.verdict import Kind, Limits, Verdict
from headrace.streams.workers.jobs import FINALISER, PartitionStatus, StateFacts, Status

LONGEST_LOOK_S = 2.0
"""Time between two looks counts up to this much: who did not look cannot say that nothing moved.
The whole machine may have slept, or the watcher itself may have been held up."""

RETRY_SEEN_S = 30.0
"""A dependency whose step was repeated within this time is in trouble: longer than a request to
the bus may take (15 s) and the longest pause before the next try (5 s) together."""


@dataclass(slots=True)
class _Track:
    """One partition over time; times are the watchdog's own seconds.

    Attributes:
        seen: As of the last sample.
        moved_s: When it last got on.
        since_s: From when its standing still counts: then, or the end of a dependency's trouble.
    """

    seen: PartitionStatus
    moved_s: float
    since_s: float


class Watchdog:
    """One life of one worker, as its status lines show it.

    A partition gets on when its position moves, when its lag falls, or, during a takeover, when
    events are replayed. While bus or store are away, standing still is waiting: starting the stage
    again would mend nothing, so the time does not count.

    Args:
        name: What lines call it: the worker's name.
        limits: When to say what.
    """

    def __init__(self, name: str, limits: Limits) -> None:
        self._name = name
        self._limits = limits
        self._clock_s = 0.0
        self._looked_s: float | None = None
        self._heard_s: float | None = None
        self._tracks: dict[int, _Track] = {}
        self._retries: dict[str, int] = {}
        self._retried_s: dict[str, float] = {}
        self._replayed = 0
        self._backlog = Backlog()
        self._last = Verdict(Kind.STARTING)

    def observe(
        self, now_s: float, status: Status | None, *, away: Collection[str] = ()
    ) -> Verdict:
        """Take a look.

        Args:
            now_s: Monotonic seconds, not before the last look's.
            status: The newest status line; None when none came since the last look.
            away: Dependencies that do not answer: ``bus``, ``store``.

        Returns:
            How the stage is. STUCK when some partition has records to process or a step in hand,
            and did not get on for `stuck_after_s`; `restart` from `stuck_restart_s` on.

        Delivery: pure.
        """
        looked_s = self._looked_s
        self._looked_s = now_s
        if looked_s is not None:
            self._clock_s += min(now_s - looked_s, LONGEST_LOOK_S)
        if status is None:
            return self._unheard()
        self._heard_s = self._clock_s
        self._last = self._heard(status, away)
        return self._last

    def still_s(self, partition: int) -> float:
        """How long a partition has not got on, seconds; 0.0 while it rests."""
        track = self._tracks.get(partition)
        return 0.0 if track is None else self._clock_s - track.moved_s

    def _unheard(self) -> Verdict:
        # Before its first line a process imports and checks its model; the supervisor sees it end.
        silent_s = 0.0 if self._heard_s is None else self._clock_s - self._heard_s
        if silent_s < self._limits.silent_after_s:
            return self._last
        line = (
            f"{self._name} is silent: no status line for {silent_s:.0f} s, expected two a second; "
            f"its process hangs or was stopped, and is started again "
            f"after {self._limits.stuck_restart_s:g} s"
        )
        restart = silent_s >= self._limits.stuck_restart_s
        return Verdict(Kind.SILENT, line, silent_s, restart)

    def _heard(self, status: Status, away: Collection[str]) -> Verdict:
        troubled = self._troubled(status.retries, away)
        done = self._follow(status, excused=bool(troubled))
        growing_s = self._backlog.observe(self._clock_s, lag=status.lag, done=done)
        if not status.ready and not status.partitions:
            return Verdict(Kind.STARTING)
        busy = [track for track in self._tracks.values() if _busy(track.seen)]
        if busy and (verdict := self._standing(status, busy, troubled)) is not None:
            return verdict
        if growing_s:
            return self._slow(status, growing_s)
        kept = status.state if status.stage == FINALISER else None
        if kept is not None and kept.bytes > self._limits.parts_bytes:
            return self._holding(kept)
        return Verdict(Kind.WORKING if busy or status.lag else Kind.IDLE)

    def _troubled(self, retries: Mapping[str, int], away: Collection[str]) -> list[str]:
        """Dependencies that do not answer, or that a lane repeats a step for."""
        for code, count in retries.items():
            if count > self._retries.get(code, 0):
                self._retried_s[code.partition(".")[0]] = self._clock_s
        self._retries = dict(retries)
        recent = {
            name for name, at_s in self._retried_s.items() if self._clock_s - at_s < RETRY_SEEN_S
        }
        return sorted(recent.union(away))

    def _follow(self, status: Status, *, excused: bool) -> int:
        """Bring the tracks up to date; records finished since the last sample."""
        replays, self._replayed = status.replayed > self._replayed, status.replayed
        tracks, done = {}, 0
        for part in status.partitions:
            track = self._tracks.get(part.partition)
            if track is None:
                track = _Track(part, self._clock_s, self._clock_s)
            done += max(0, part.position - track.seen.position)
            if _got_on(track.seen, part) or (replays and not part.taken_over):
                track.moved_s = track.since_s = self._clock_s
            elif excused:
                track.since_s = self._clock_s
            track.seen = part
            tracks[part.partition] = track
        self._tracks = tracks
        return done

    def _standing(self, status: Status, busy: list[_Track], troubled: list[str]) -> Verdict | None:
        """The verdict on partitions that do not get on; None when they do."""
        worst = min(busy, key=lambda track: (track.since_s, track.moved_s))
        still_s = self._clock_s - worst.moved_s
        if troubled and still_s >= self._limits.waiting_after_s:
            line = (
                f"{self._name} waits for the {' and the '.join(troubled)}: "
                f"{self._where(status, worst, still_s)}; it goes on by itself"
            )
            return Verdict(Kind.WAITING, line, still_s)
        counted_s = self._clock_s - worst.since_s
        if counted_s < self._limits.stuck_after_s:
            return None
        line = (
            f"{self._name} is stuck: {self._where(status, worst, still_s)}, expected some within "
            f"{self._limits.stuck_after_s:g} s; it is started again after "
            f"{self._limits.stuck_restart_s:g} s"
        )
        return Verdict(Kind.STUCK, line, still_s, counted_s >= self._limits.stuck_restart_s)

    def _where(self, status: Status, track: _Track, still_s: float) -> str:
        part = track.seen
        step = f"step {part.step} for {part.step_s:.0f} s" if part.step else "no step in hand"
        return (
            f"{status.topic}[{part.partition}]@{part.position} has made no progress for "
            f"{still_s:.0f} s ({step}, {part.lag} records behind, {part.in_flight} batches open)"
        )

    def _slow(self, status: Status, growing_s: float) -> Verdict:
        most = max((track.seen for track in self._tracks.values()), key=lambda part: part.lag)
        line = (
            f"{self._name} is slow: {status.lag} records behind and more for {growing_s:.0f} s, "
            f"at {self._backlog.pace_per_s:.0f} records/s, most of them ({most.lag}) at "
            f"{status.topic}[{most.partition}]@{most.position}; add a worker, or see which step "
            f"takes long"
        )
        return Verdict(Kind.SLOW, line)

    def _holding(self, state: StateFacts) -> Verdict:
        """The verdict on a finaliser that holds more than it should."""
        where = "no partition is behind; shorten summary.amend_s"
        if (worst := state.furthest_behind) is not None:
            where = (
                f"they wait for partition {worst[0]}, {worst[1]:.0f} s of event time behind the "
                f"one that is furthest; see its lag in enrich and serve"
            )
        return Verdict(
            Kind.HOLDING,
            f"{self._name} holds {state.bytes / (1 << 20):.0f} MiB of parts of summaries, expected "
            f"at most {self._limits.parts_bytes / (1 << 20):.0f}: {where}",
        )


def _busy(part: PartitionStatus) -> bool:
    """Whether a partition has anything to get on with."""
    return part.lag > 0 or part.in_flight > 0 or part.step is not None


def _got_on(before: PartitionStatus, now: PartitionStatus) -> bool:
    return now.position != before.position or now.lag < before.lag or not _busy(now)
