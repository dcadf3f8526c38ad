"""What a worker that is gone left open: found by the name it noted beside the group's offset.

Each worker's transactions have an id of its own, so nobody opens a dead one's again by itself. Its
last transaction would stay open until its time is up, and readers of committed records with it.
"""

from __future__ import annotations

import time
from typing import Any

from headrace.streams.bus.lost_markers import OFFSETS, described

HUNG_S = 1.0
"""A transaction of another worker that is open for longer, and that our partition waits for, is
taken to be that of a dead one. Ending that of a living one costs it a takeover, and no more."""


class FormerOwners:
    """Tells whether a former owner's transaction is still open and holds up a partition."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    async def left_open(self, client: Any, transactional_id: str, partition: int) -> bool:
        """Whether that id's transaction is to be ended for the sake of a source partition.

        It is if it holds outputs of the partition, which is not the former owner's any more
        (outputs go to the source partition's number), or if it is open since `HUNG_S`.

        Args:
            client: aiokafka's client, connected.
            transactional_id: What the former owner noted.
            partition: Source partition.

        Raises:
            KafkaError: what else the bus answered.
        """
        last = await described(client, transactional_id)
        if last is not None and last.state == "Ongoing":
            outputs = [numbers for topic, numbers in last.topics.items() if topic != OFFSETS]
            ours = any(partition in numbers for numbers in outputs)
            return ours or self._hung(transactional_id, last.start_ms)
        self._seen.pop(transactional_id, None)
        return False

    def _hung(self, transactional_id: str, start_ms: int) -> bool:
        """Whether the same transaction was open `HUNG_S` ago, by our own clock."""
        now = time.monotonic()
        start, first = self._seen.get(transactional_id, (start_ms, now))
        self._seen[transactional_id] = (start_ms, first if start == start_ms else now)
        return start == start_ms and now - first > HUNG_S
