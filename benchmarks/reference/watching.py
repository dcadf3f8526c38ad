"""A running side, watched from its first prediction to its last.

Every side is timed alike: from the first look that finds a fifth of the events taken to the first
that finds 95 % of the predictions, by what these looks found. Taken is what the side's first topic
holds: of a side of one stage that is the predictions, of Headrace what ENRICH wrote, so that work
done ahead of the predictions is in the time, too. So neither the start, nor the first batch, nor
the wait for a last batch that does not fill counts, however large the batches of a side are. CPU is
counted from the first record in any topic of the side.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from processes import command_line, usage
from services import started
from sides import Running
from telemetry_log import wait_for

PATIENCE_S = 120.0
LOOK_S = 0.02
WEIGH_S = 0.5
QUIET_S = 3.0
"""A log of transactions that has not changed for so long has ended: their markers take offsets, so
records cannot be told from them by counting."""
SINCE, UNTIL = 0.20, 0.95
"""Shares of the predictions between which a side is timed."""
STEADY_SHARE = 0.3
"""Of the events must be left when every partition has begun, to speak of a steady rate."""

Result = dict[str, Any]
Ends = Callable[[str], Awaitable[list[int]]]
"""Where each partition of a topic ends."""


@dataclass(frozen=True)
class Moment:
    """How far a side was.

    Attributes:
        done: Predictions.
        at_s: Monotonic clock, seconds.
        cpu_s: CPU time it had used, seconds.
        services_cpu_s: CPU time that bus and store had used, seconds.
    """

    done: int
    at_s: float
    cpu_s: float
    services_cpu_s: float = 0.0


@dataclass
class Span:
    """The moments of one run, each the first look that found so much.

    Attributes:
        count: Predictions that must come.
        done: Those that the last look with news found.
        began: The first record of its first stage; CPU counts from here.
        first: The first prediction.
        since: `SINCE` of them, where the measured time of a side of one stage begins.
        every: Every partition had one.
        until: `UNTIL` of them, where the measured time ends.
        ended_s: When the last change was seen with all of them there, by the monotonic clock.
        taken: Of a side with a first stage, at every look the moment and how much that stage's
            topic held, in records of whatever size.
    """

    count: int
    done: int = 0
    began: Moment | None = None
    first: Moment | None = None
    since: Moment | None = None
    every: Moment | None = None
    until: Moment | None = None
    ended_s: float | None = None
    taken: list[tuple[float, int]] = field(default_factory=list)

    def look(
        self, found: Sequence[int], at_s: float, roots: Sequence[int], taken: int | None = None
    ) -> None:
        """Note what a look found: where each partition ended, at which moment.

        Args:
            found: Ends of the partitions of the predictions.
            at_s: Monotonic clock, seconds.
            roots: Process ids of the side.
            taken: Records in the topic of its first stage; None where it has one stage alone.
        """
        if taken is not None:
            self.taken.append((at_s, taken))
        done = sum(found)
        reached = {
            "first": done > 0,
            "since": done >= SINCE * self.count,
            "every": all(found),
            "until": done >= UNTIL * self.count,
        }
        fresh = [name for name, yes in reached.items() if yes and getattr(self, name) is None]
        if fresh:
            moment = _moment(min(done, self.count), roots, at_s)
            for name in fresh:
                setattr(self, name, moment)
        if done > self.done and done >= self.count:
            self.ended_s = at_s
        self.done = done

    def over(self, at_s: float, quiet_s: float) -> bool:
        """Whether all predictions are there, every partition has some, and for so long no more."""
        if self.ended_s is None or self.every is None or self.began is None:
            return False
        return at_s - self.ended_s >= quiet_s

    def begins(self) -> Moment:
        """Where the measured time begins: the first look that found `SINCE` of the events taken."""
        since = cast("Moment", self.since)
        if not self.taken:
            return since
        enough = SINCE * self.taken[-1][1]
        return self.ahead(replace(since, at_s=next(at for at, n in self.taken if n >= enough)))

    def ahead(self, moment: Moment) -> Moment:
        """The same moment, with what the first stage had taken by then as done."""
        if not self.taken:
            return moment
        held = max(n for at, n in self.taken if at <= moment.at_s)
        return replace(moment, done=round(self.count * held / self.taken[-1][1]))


async def watch(bus: str, running: Running, count: int) -> Result:
    """Time and CPU of a side from `SINCE` of the events taken to `UNTIL` of the predictions.

    Raises:
        SystemExit: the predictions did not come, or a process of the side ended.
    """
    roots = [process.pid for process in running.processes]
    span = Span(count)
    weighed = 0.0
    peaks: dict[int, float] = {}
    async with ends_of(bus, running) as ends:
        async for now in looks(running):
            if span.began is None and any(await ends(running.first)):
                span.began = _moment(sum(await ends(running.output)), roots, now)
            staged = running.first != running.output
            taken = sum(await ends(running.first)) if staged else None
            found = await ends(running.output)
            if now - weighed > WEIGH_S:
                weighed = now
                _raise_peaks(peaks, roots)
            span.look(found, now, roots, taken)
            if span.over(now, QUIET_S if running.transactions else 0.0):
                _raise_peaks(peaks, roots)
                return figures(span, peaks)
    why = "one of its processes ended" if running.ended() else f"after {PATIENCE_S:g} s"
    raise SystemExit(f"{span.done} of {count} predictions, {why}")


@asynccontextmanager
async def ends_of(bus: str, running: Running) -> AsyncIterator[Ends]:
    """A way to ask where the topics of a side end, once they are there."""
    await wait_for(bus, running.output, running.first)
    consumer = AIOKafkaConsumer(bootstrap_servers=bus, isolation_level="read_committed")
    await consumer.start()

    async def ends(topic: str) -> list[int]:
        partitions = [TopicPartition(topic, p) for p in range(running.partitions)]
        return list((await consumer.end_offsets(partitions)).values())

    try:
        yield ends
    finally:
        await consumer.stop()


async def looks(running: Running) -> AsyncIterator[float]:
    """Now and again the monotonic clock, until a process ends or the patience does."""
    deadline = time.monotonic() + PATIENCE_S
    while (now := time.monotonic()) < deadline and not running.ended():
        yield now
        await asyncio.sleep(LOOK_S)


def _raise_peaks(peaks: dict[int, float], roots: Sequence[int]) -> None:
    """Keep the most resident memory that each process was seen with, MiB."""
    for pid, mb in usage(roots).rss_mb.items():
        peaks[pid] = max(mb, peaks.get(pid, 0.0))


def _moment(done: int, roots: Sequence[int], at_s: float) -> Moment:
    """A look's moment, with the CPU time used until now."""
    return Moment(done, at_s, usage(roots).cpu_s, usage(started()).cpu_s)


def figures(span: Span, peaks: dict[int, float]) -> Result:
    """One run as figures.

    Args:
        span: A run that is over.
        peaks: Most resident memory of each process, MiB, by its id.

    Returns:
        With ``window_s`` the seconds that the rate is of, with ``ahead_s`` how long the first stage
        had a fifth of the events before the predictions had it, and with ``steady`` the rate from
        the moment every partition had begun; None where too little was left by then.

    Raises:
        SystemExit: a single look saw the measured part begin and end, so it has no length.
    """
    began, first, every, until = (
        cast("Moment", moment) for moment in (span.began, span.first, span.every, span.until)
    )
    since, steady = span.begins(), span.ahead(every)
    if until.done <= since.done:
        raise SystemExit(
            f"predictions {since.done} to {until.done} of {span.count} came at one look, "
            f"every {LOOK_S:g} s; make the log longer"
        )
    processes: dict[str, float] = {}
    for number, (pid, peak) in enumerate(sorted(peaks.items()), 1):
        name = stage_of(pid) or f"process {number}"
        processes[f"{name} {number}" if name in processes else name] = round(peak, 1)
    enough = until.done - steady.done >= STEADY_SHARE * span.count
    spent_s, counted = until.cpu_s - began.cpu_s, until.done - began.done
    return {
        "events_per_s": rate(since, until),
        "us_cpu_per_event": round(spent_s / counted * 1e6, 2),
        "window_s": round(until.at_s - since.at_s, 2),
        "rss_mb": round(sum(peaks.values()), 1),
        "processes_mb": processes,
        "ahead_s": round(cast("Moment", span.since).at_s - since.at_s, 2),
        "every_partition_s": round(every.at_s - first.at_s, 2),
        "steady": {"events_per_s": rate(steady, until)} if enough else None,
        "us_cpu_of_services": per_event(began, until),
    }


def per_event(since: Moment, until: Moment) -> float | None:
    """CPU of bus and store, µs per event; None where they were not started here."""
    spent_s = until.services_cpu_s - since.services_cpu_s
    return round(spent_s / (until.done - since.done) * 1e6, 2) if spent_s else None


def rate(since: Moment, until: Moment) -> int:
    """Events per second between two moments.

    Example:
        >>> rate(Moment(100, 1.0, 0.5), Moment(1100, 3.0, 0.51))
        500
    """
    return round((until.done - since.done) / (until.at_s - since.at_s))


def stage_of(pid: int) -> str:
    """Which of Headrace's processes it is; empty for another side's."""
    words = command_line(pid).split()
    if "headrace.streams.workers.worker" in words:
        return words[words.index("headrace.streams.workers.worker") + 1]
    if "headrace.streams.workers.nursery" in words:
        return "nursery"
    return "supervisor" if "up" in words else ""
