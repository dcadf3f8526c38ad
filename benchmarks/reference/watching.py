"""A running side, watched from its first record to its last prediction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

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


async def watch(bus: str, running: Running, count: int) -> Result:
    """Time from the side's first record to its last prediction, and its CPU meanwhile.

    Raises:
        SystemExit: the predictions did not come, or a process of the side ended.
    """
    roots = [process.pid for process in running.processes]
    began = every = ended = None
    done, weighed = 0, 0.0
    peaks: dict[int, float] = {}
    async with ends_of(bus, running) as ends:
        async for now in looks(running):
            if began is None and any(await ends(running.first)):
                began = _moment(sum(await ends(running.output)), roots)
            found = await ends(running.output)
            if every is None and all(found):
                every = _moment(sum(found), roots, now)
            if now - weighed > WEIGH_S:
                weighed = now
                _raise_peaks(peaks, roots)
            if sum(found) > done and (done := sum(found)) >= count:
                ended = _moment(count, roots, now)
            if ended is None or (running.transactions and now - ended.at_s < QUIET_S):
                continue
            if began is not None and every is not None:
                _raise_peaks(peaks, roots)
                return figures(began, every, ended, peaks)
    why = "one of its processes ended" if running.ended() else f"after {PATIENCE_S:g} s"
    raise SystemExit(f"{done} of {count} predictions, {why}")


@asynccontextmanager
async def ends_of(bus: str, running: Running) -> AsyncIterator[Ends]:
    """A way to ask where the topics of a side end, once they are there."""
    await wait_for(bus, running.output, running.first)
    consumer = AIOKafkaConsumer(bootstrap_servers=bus)
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


def _moment(done: int, roots: Sequence[int], at_s: float | None = None) -> Moment:
    """Now, or at the moment that is given, with the CPU time used until now."""
    at_s = time.monotonic() if at_s is None else at_s
    return Moment(done, at_s, usage(roots).cpu_s, usage(started()).cpu_s)


def figures(began: Moment, every: Moment, ended: Moment, peaks: dict[int, float]) -> Result:
    """One run as figures.

    Args:
        began: Its first record was there; predictions that were out by then do not count.
        every: Every partition had a prediction.
        ended: All were there.
        peaks: Most resident memory of each process, MiB, by its id.

    Returns:
        With ``steady``, the same figures from `every` on; None where too little was left by then.
    """
    processes: dict[str, float] = {}
    for number, (pid, peak) in enumerate(sorted(peaks.items()), 1):
        name = stage_of(pid) or f"process {number}"
        processes[f"{name} {number}" if name in processes else name] = round(peak, 1)
    enough = ended.done - every.done >= STEADY_SHARE * ended.done
    return rates(began, ended) | {
        "rss_mb": round(sum(peaks.values()), 1),
        "processes_mb": processes,
        "every_partition_s": round(every.at_s - began.at_s, 2),
        "steady": rates(every, ended) if enough else None,
        "us_cpu_of_services": per_event(began, ended),
    }


def per_event(since: Moment, until: Moment) -> float | None:
    """CPU of bus and store, µs per event; None where they were not started here."""
    spent_s = until.services_cpu_s - since.services_cpu_s
    return round(spent_s / (until.done - since.done) * 1e6, 2) if spent_s else None


def rates(since: Moment, until: Moment) -> Result:
    """Events per second and CPU per event between two moments.

    Example:
        >>> rates(Moment(100, 1.0, 0.5), Moment(1100, 3.0, 0.51))
        {'events_per_s': 500, 'us_cpu_per_event': 10.0}
    """
    events = until.done - since.done
    return {
        "events_per_s": round(events / (until.at_s - since.at_s)),
        "us_cpu_per_event": round((until.cpu_s - since.cpu_s) / events * 1e6, 2),
    }


def stage_of(pid: int) -> str:
    """Which of Headrace's processes it is; empty for another side's."""
    words = command_line(pid).split()
    if "headrace.streams.worker" in words:
        return words[words.index("headrace.streams.worker") + 1]
    return "supervisor" if "up" in words else ""
