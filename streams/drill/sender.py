"""The load's producer: a steady trickle, and surges that a killer may ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaProducer
from chaos.load import Load

TRICKLE_ROWS, TRICKLE_S = 100, 0.1


class Sender:
    """Sends a load in its order, each record once.

    Args:
        options: Client options.
        topic: Telemetry topic.
        load: What to send.
    """

    def __init__(self, options: Mapping[str, Any], topic: str, load: Load) -> None:
        self._producer = AIOKafkaProducer(
            **options, acks="all", enable_idempotence=True, linger_ms=5
        )
        self._topic, self._rows = topic, load.rows
        self._next = 0
        self._order = asyncio.Lock()

    async def __aenter__(self) -> Sender:
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def send(self, count: int) -> None:
        """Send the next `count` records, fewer at the end, and wait for their acknowledgements."""
        async with self._order:
            rows = self._rows[self._next : self._next + count]
            self._next += len(rows)
            sent = [
                await self._producer.send(
                    self._topic, row.value, key=row.device.encode(), partition=row.partition
                )
                for row in rows
            ]
        await asyncio.gather(*sent)

    async def trickle(self, enough: asyncio.Event) -> None:
        """Send at a steady rate until `enough` is set, then what is left."""
        while self._next < len(self._rows) and not enough.is_set():
            await self.send(TRICKLE_ROWS)
            await asyncio.sleep(TRICKLE_S)
        await self.send(len(self._rows))
