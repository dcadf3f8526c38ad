"""The load's producer: a steady trickle, and surges that a fault may ask for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from headrace.schemas.errors import RetryableError
from headrace.streams.client.bus import BusWriter
from headrace.streams.drill.load import Fleet, Mood, Row

TRICKLE_S = 0.1


class Sender:
    """Sends a fleet's events in their order, each record once, whatever becomes of the bus.

    It is the only one that writes to its topic, which is new: so a record's place is known before
    it is sent, and after an error the end of the log says what has arrived.

    Args:
        writer: Writes to the topic.
        end: The offset after the last record of a partition, asked of the bus.
        fleet: Makes what is sent; what it has made before is on the topic already.
    """

    def __init__(
        self, writer: BusWriter, end: Callable[[int], Awaitable[int]], fleet: Fleet
    ) -> None:
        self._writer, self._end, self._fleet = writer, end, fleet
        self._order = [asyncio.Lock() for _ in range(fleet.load.partitions)]
        self.acknowledged = Counter({p: len(rows) for p, rows in fleet.load.by_partition.items()})
        """Records of each partition that all replicas have."""

    async def __aenter__(self) -> Sender:
        await self._writer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._writer.stop()

    async def send(self, count: int, mood: Mood = "calm") -> None:
        """Send the next `count` events, and wait for their acknowledgements.

        Args:
            count: Events, without what is planted among them.
            mood: What the devices are up to.

        Delivery: once; retryable errors are repeated from where the log ends.
        """
        rows: dict[int, list[Row]] = {}
        for row in self._fleet.take(count, mood):
            rows.setdefault(row.partition, []).append(row)
        await asyncio.gather(*(self._write(*part) for part in rows.items()))

    async def trickle(self, rate_per_s: float, enough: asyncio.Event) -> None:
        """Send at a steady rate until `enough` is set."""
        count = max(1, round(rate_per_s * TRICKLE_S))
        while not enough.is_set():
            await asyncio.gather(self.send(count), asyncio.sleep(TRICKLE_S))

    async def _write(self, partition: int, rows: Sequence[Row]) -> None:
        async with self._order[partition]:
            begin = self.acknowledged[partition]
            end = begin + len(rows)
            while (at := self.acknowledged[partition]) < end:
                left = rows[at - begin :]
                keys = [row.device.encode() for row in left]
                try:
                    await self._writer.write(
                        partition, keys, [row.value for row in left], [()] * len(left)
                    )
                except RetryableError as error:
                    await asyncio.sleep(error.retry_after_s)
                    self.acknowledged[partition] = await self._arrived(partition)
                else:
                    self.acknowledged[partition] = end

    async def _arrived(self, partition: int) -> int:
        """Where the log ends: nothing is sent again before that is known."""
        while True:
            try:
                return await self._end(partition)
            except RetryableError as error:
                await asyncio.sleep(error.retry_after_s)
