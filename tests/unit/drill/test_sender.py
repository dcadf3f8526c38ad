"""Each record once and in its order, whatever the bus says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fakes.drill_pipeline import drill_pipeline
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.batch import Headers
from headrace.schemas.errors import BusUnavailableError
from headrace.streams.client.bus import BusWriter
from headrace.streams.drill.load import Fleet
from headrace.streams.drill.sender import Sender


class FlakyBus:
    """A topic that sometimes takes a part of what is written and then is away.

    Args:
        upsets: Of each write in turn how many records are taken before it fails; None: all.
    """

    idempotent = True

    def __init__(self, upsets: Sequence[int | None]) -> None:
        self._upsets = list(upsets)
        self.log: dict[int, list[bytes]] = {}

    async def start(self) -> int:
        return 4

    async def write(
        self,
        partition: int,
        keys: Sequence[bytes | None],
        values: Sequence[bytes],
        headers: Sequence[Headers],
    ) -> list[int]:
        await asyncio.sleep(0)
        rows = self.log.setdefault(partition, [])
        begin, taken = len(rows), self._upsets.pop(0) if self._upsets else None
        rows += values[:taken]
        if taken is not None:
            raise BusUnavailableError("it is away", retry_after_s=0.0)
        return list(range(begin, len(rows)))

    async def stop(self) -> None:
        pass

    async def end(self, partition: int) -> int:
        """The offset after the last record; away as often as the writes."""
        if self._upsets and self._upsets[0] == 0:
            self._upsets.pop(0)
            raise BusUnavailableError("it is still away", retry_after_s=0.0)
        return len(self.log.get(partition, []))


upsets = st.lists(st.none() | st.integers(0, 30), max_size=12)


@given(upsets, st.lists(st.integers(0, 60), min_size=1, max_size=5))
@settings(deadline=None)
def test_the_log_is_what_was_sent(upsets, counts) -> None:
    """Writes cut short anywhere, several at a time: no record missing, double or out of order."""
    bus, fleet = FlakyBus(upsets), Fleet(drill_pipeline(), 3)
    writer: BusWriter = bus

    async def run() -> None:
        async with Sender(writer, bus.end, fleet) as sender:
            await asyncio.gather(*map(sender.send, counts))

    asyncio.run(run())

    sent = {p: [row.value for row in rows] for p, rows in fleet.load.by_partition.items() if rows}
    assert {p: rows for p, rows in bus.log.items() if rows} == sent
