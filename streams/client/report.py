"""What a consumer perceived, told to the pipeline: counts of latencies, once a minute."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress

import msgspec

from headrace.schemas.batch import I64
from headrace.schemas.errors import HeadraceError
from headrace.schemas.observed import ObservedRecord
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.topics import topics_of
from headrace.streams.client.bus import Bus, BusWriter
from headrace.streams.client.latency import Latency

log = logging.getLogger(__name__)

EVERY_S = 60.0
STOP_S = 2.0


class LatencyReport:
    """Adds a record to the pipeline's topic `observed` each minute in which something arrived.

    Reading predictions neither waits for it nor fails with it: where the topic cannot be written,
    one line says so, and what was counted goes with the next record.

    Delivery: at most once; a record whose answer was lost is not sent again.

    Args:
        bus: The bus.
        pipeline: Whose predictions they are.
        latencies: Latencies by hop; they only grow.
        now: Wall clock, seconds since 1970.
        every_s: Time between two records, seconds.
    """

    def __init__(
        self,
        bus: Bus,
        pipeline: Pipeline,
        latencies: dict[str, Latency],
        *,
        now: Callable[[], float],
        every_s: float = EVERY_S,
    ) -> None:
        self._bus, self._pipeline, self._latencies = bus, pipeline, latencies
        self._now, self._every_s = now, every_s
        self._topic = topics_of(pipeline).observed.name
        self._life = os.urandom(8).hex()
        self._number = 0
        self._told: dict[str, I64] = {hop: found.counts.copy() for hop, found in latencies.items()}
        self._told_s = now()
        self._failing = False
        self._writer: BusWriter | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to tell."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Tell the rest, in two seconds at most; harmless before `start`."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await self._tell()
        if self._writer is not None:
            await self._writer.stop()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self._tell()

    async def _tell(self) -> None:
        """Write what was counted since the last record."""
        counts = {hop: found.counts.copy() for hop, found in self._latencies.items()}
        record = self._record(counts)
        if record is None:
            return
        try:
            if self._writer is None:
                writer = self._bus.writer(self._topic)
                await writer.start()
                self._writer = writer
            await self._writer.write(0, [None], [msgspec.json.encode(record)], [()])
        except HeadraceError as error:
            if not self._failing:
                log.warning("perceived latency is not reported: %s", error)
            self._failing = True
            failed, self._writer = self._writer, None
            if failed is not None:
                await failed.stop()
            return
        self._failing = False
        self._number += 1
        self._told, self._told_s = counts, self._now()

    def _record(self, counts: dict[str, I64]) -> ObservedRecord | None:
        """None where nothing arrived."""
        # Loaded with the first record: who reports nothing does not wait for it.
        from headrace.streams.observe.class_numbers import ALL
        from headrace.streams.observe.hops import encode_bins
        from headrace.streams.observe.latencies import percentiles

        new = {hop: bins - self._told[hop] for hop, bins in counts.items()}
        if not any(bins.any() for bins in new.values()):
            return None
        now_s = self._now()
        return ObservedRecord(
            pipeline=self._pipeline.name,
            pipeline_digest=self._pipeline.digest,
            teller=self._life,
            life=self._life,
            number=self._number,
            at_ms=round(now_s * 1000),
            seconds=round(max(0.0, now_s - self._told_s), 3),
            latencies=tuple(percentiles({(hop, ALL): bins for hop, bins in new.items()})),
            perceived={hop: encode_bins(bins) for hop, bins in new.items()},
        )
