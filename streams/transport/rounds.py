"""When a stage begins small batches, and when it asks the bus for more."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from headrace.streams.transport.flow import Flow
from headrace.streams.transport.options import Partition

ROUND_S = 0.02
"""Longest that small batches wait for those in hand. Begun together, the batches of a stage's
partitions cost one request to the bus and one to the store; begun one by one, one each."""

PACE_S = 0.005
"""Least time between two rounds of small batches: at a low rate a round costs as much as at a high
one, and without this a stage makes as many as the machine can bear."""

GATHER_S = 0.003
"""Longest that a round waits for a partition of the last two. The bus hands out one partition of
what came together, and the others right behind it: the first would take a round alone, the others
the next, and so on in turns, so that each batch waits for two."""

LITTLE_BYTES = 256 << 10
"""While a stage holds less than this, on the wire, it asks for more only between two rounds. To ask
costs both ends as much as a small batch does, whether it brings one record or what came during a
whole round; of a backlog the next part is asked for while this one is in work."""


class Rounds:
    """Small batches of a stage's partitions begin together, when none is in hand.

    Pure: it looks at flows and at the time it is told.
    """

    def __init__(self) -> None:
        self._until = 0.0
        self._next = 0.0
        self._since: float | None = None
        self._lately: deque[set[Partition]] = deque(maxlen=2)

    def begin(self, flows: Collection[Flow], now: float) -> float:
        """Begin a round if it may.

        Args:
            flows: The stage's partitions.
            now: Monotonic seconds.

        Returns:
            `now` where one has begun, or none is to; else when to ask again, monotonic seconds.
        """
        if self._in_hand(flows, now):
            return self._until
        if now < self._next:
            return self._next
        if not any(flow.ready(now) for flow in flows):
            return now
        self._since = now if self._since is None else self._since
        if now < self._since + GATHER_S and not self._complete(flows, now):
            return self._since + GATHER_S
        self._since, self._next, self._until = None, now + PACE_S, now + ROUND_S
        self._lately.append({flow.partition for flow in flows if flow.ready(now)})
        return now

    def holds(self, flows: Collection[Flow], now: float) -> bool:
        """Whether asking the bus for more waits until what is here is finished."""
        if _bytes(flows) >= LITTLE_BYTES:
            return False
        return self._in_hand(flows, now) or self._complete(flows, now)

    def _in_hand(self, flows: Collection[Flow], now: float) -> bool:
        """Whether a round is in hand, and not for too long."""
        return now < self._until and any(flow.in_flight for flow in flows)

    def _complete(self, flows: Collection[Flow], now: float) -> bool:
        """Whether something may begin, and so may all that began in the last two rounds."""
        ready = {flow.partition for flow in flows if flow.ready(now)}
        awaited = {flow.partition for flow in flows} & set[Partition]().union(*self._lately)
        return bool(ready) and awaited <= ready


def _bytes(flows: Collection[Flow]) -> int:
    return sum(flow.open_bytes + flow.waiting_bytes for flow in flows)
