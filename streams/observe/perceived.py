"""What consumers report on a pipeline's topic `observed`, taken into its readings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any

from headrace.schemas.errors import HeadraceError
from headrace.schemas.observed import ObservedRecord
from headrace.streams.observe.class_numbers import ALL
from headrace.streams.observe.history_topic import read
from headrace.streams.observe.hops import CONSUMER_HOPS, decode_bins
from headrace.streams.observe.latencies import Counts

log = logging.getLogger("headrace.perceived")

LOOK_S = 10.0
MOST = 1000
"""Records of one look: of more the newest."""

AGAIN_S = 10.0


class Perceived:
    """Counts that consumers reported, each record once.

    Args:
        since_ms: Records from before are of an earlier `up`, milliseconds since 1970.
        take: Is given new counts.
    """

    def __init__(self, since_ms: int, take: Callable[[Counts], None]) -> None:
        self._since_ms, self._take = since_ms, take
        self._newest: dict[str, int] = {}

    def add(self, record: ObservedRecord) -> None:
        """Take a record; one that was seen, is older or holds no counts is passed over."""
        number = self._newest.get(record.life, -1)
        if record.at_ms < self._since_ms or record.number <= number or not record.perceived:
            return
        self._newest[record.life] = record.number
        try:
            counts: Counts = {
                (hop, ALL): decode_bins(bins)
                for hop, bins in record.perceived.items()
                if hop in CONSUMER_HOPS
            }
        except ValueError:
            return  # somebody else writes to this topic, too
        self._take(counts)

    async def follow(self, options: Mapping[str, Any], topic: str) -> None:
        """Look every ten seconds until cancelled; where that fails, look again later."""
        # Loads the client only now: the first prediction does not wait for it.
        from headrace.streams.bus.newest import newest

        while True:
            try:
                looks = newest(options, topic, rows=MOST, every_s=LOOK_S, read_committed=False)
                async with aclosing(looks):
                    async for batches in looks:
                        for batch in batches:
                            for record in map(read, batch.values):
                                if record is not None:
                                    self.add(record)
            except HeadraceError as error:
                log.info("what consumers report is not read: %s", error)
            await asyncio.sleep(AGAIN_S)
