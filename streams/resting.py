"""Says on the features topic that a partition rests, so that windows close on an idle stream.

That nothing came is no event of the log; a window closed by a clock would be another one when the
log is read again. So it is written down: a feature block of no rows, whose broker time is what
SUMMARIZE goes by (`Summarizer`), live and in any replay.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

from headrace.schemas.errors import RetryableError
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.protocols import Output
from headrace.streams.delivery.ports import Publisher
from headrace.streams.workers.jobs import PartitionStatus

log = logging.getLogger("headrace.resting")

LOOK_S = 1.0
UNUSED_S = 5.0
"""A partition that never had an event is said to rest this long after another one began: nothing of
it is open, and what comes first into it is awaited no longer. An event that comes later amends."""


class Resting:
    """When it is time to say of each partition that it rests: twice in each rest, no more.

    It rests while it gives no rows: what comes may all be dead letters, and every summary waits.

    First when the windows of all devices whose clocks are right can close; then, later by what a
    clock may be ahead, when those of the others can. Of one that was never used, once, soon after
    another is; where none is in use yet, all may begin at once, and nobody waits for a summary.

    Args:
        pipeline: Its windows, lateness and limits.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        spec, summary = pipeline.input, pipeline.summary
        first_s = max(summary.idle_s, summary.window_s + spec.allowed_lateness_s) + LOOK_S
        self._moments_s = (first_s, first_s + spec.max_skew_s)
        self._since: dict[int, tuple[int, float, int]] = {}
        self._in_use = False

    def due(self, partitions: Iterable[PartitionStatus], now_s: float) -> list[int]:
        """Partitions of which to say so now.

        Args:
            partitions: Every partition of our share.
            now_s: Monotonic seconds, not before the last call's.

        Delivery: pure.
        """
        since, self._since = self._since, {}
        found, ours = [], list(partitions)
        in_use = any(part.position for part in ours)
        if in_use and not self._in_use:
            # The others may be about to begin, too: they have their time from now on.
            since = {p: (given, now_s, said) for p, (given, _, said) in since.items()}
        self._in_use = in_use
        for part in ours:
            if not part.taken_over:
                continue
            given, began_s, said = since.get(part.partition, (part.given, now_s, 0))
            if given != part.given:
                given, began_s, said = part.given, now_s, 0
            unused_s = UNUSED_S if in_use else self._moments_s[0]
            moments_s = self._moments_s if part.position else (unused_s,)
            late = said < len(moments_s) and now_s - began_s >= moments_s[said]
            if late and _done(part):
                said += 1
                found.append(part.partition)
            self._since[part.partition] = given, began_s, said
        return found

    def unsaid(self, partitions: Iterable[int]) -> None:
        """Saying so failed: it is due again."""
        for partition in partitions:
            if partition in self._since:
                given, began_s, said = self._since[partition]
                self._since[partition] = given, began_s, max(0, said - 1)


def _done(part: PartitionStatus) -> bool:
    """Everything in it is done."""
    return part.lag == 0 and part.in_flight == 0 and part.step is None


async def say_rests(
    resting: Resting,
    partitions: Callable[[], Iterable[PartitionStatus]],
    block: Callable[[int], Output],
    publisher: Publisher,
    at_end: Callable[[int], Awaitable[bool]],
) -> None:
    """Look once a second and say what is due; returns never.

    Args:
        resting: Says what is due.
        partitions: Every partition of our share, now.
        block: What to publish of one of them.
        publisher: Where to.
        at_end: Whether the log of a partition has nothing now that we have not finished. A worker
            that was paused, or cut off from the bus, does not know by itself what came meanwhile:
            to say that nothing did would close the windows that it belongs to.

    Raises:
        FatalError: from the publisher.

    Delivery: at least once, as long as the partition rests and is ours: every summary waits for it.
    """
    while True:
        await asyncio.sleep(LOOK_S)
        due = resting.due(partitions(), time.monotonic())
        if due:
            try:
                ends = await asyncio.gather(*map(at_end, due))
                resting.unsaid(part for part, ended in zip(due, ends, strict=True) if not ended)
                due = [part for part, ended in zip(due, ends, strict=True) if ended]
                await publisher.publish([block(partition) for partition in due])
            except RetryableError as error:
                log.warning("saying that %d partitions rest failed: %s", len(due), error)
                resting.unsaid(due)
