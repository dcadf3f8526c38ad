"""The pipeline that a drill runs: its topics, and what is on them in the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from headrace.feature_store.open import open_store
from headrace.schemas.batch import Headers
from headrace.schemas.errors import StateError
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.topics import topics_of
from headrace.schemas.views import expand
from headrace.streams.bus.admin import ensure_topics
from headrace.streams.bus.options import client_options
from headrace.streams.bus.reads import log_range, log_ranges, read_range
from headrace.streams.bus.removal import remove_group, remove_topics
from headrace.streams.client import Consumer
from headrace.streams.client.kafka_bus import KafkaBus
from headrace.streams.drill.kinds import Kind
from headrace.streams.drill.ledger import Dump, Records
from headrace.streams.drill.load import DEVICES, START_MS, Fleet
from headrace.streams.drill.sender import Sender
from headrace.streams.drill.services import Services
from headrace.streams.sites.positions import settle_positions
from headrace.streams.workers.jobs import STAGES, Endpoints, groups_of

Rows = tuple[bytes, bytes, bytes]


class Target:
    """One pipeline under a name that is new to bus and store.

    Args:
        file: Its file; workers leave their output beside it.
        endpoints: Where bus and store are.
        for_workers: Where workers find them; None: at the same places.
    """

    def __init__(
        self, file: Path, endpoints: Endpoints, for_workers: Endpoints | None = None
    ) -> None:
        self.file, self.folder, self.endpoints = file, file.parent, endpoints
        self.for_workers = for_workers or endpoints
        self.orders = file.with_suffix(".orders")
        self.options = client_options(endpoints.bus)
        self.pipeline = load_pipeline(file)
        self.name = self.pipeline.name
        self.topics = topics_of(self.pipeline)
        self.once = self.pipeline.delivery.mode == "exactly-once"
        self.handed_over = Counter[tuple[int, int]]()
        """What the shipped consumer gave of logs that are gone."""
        self._begins: dict[str, dict[int, int]] = {}

    async def prepare(self) -> None:
        """Make the topics, and settle where the groups begin.

        Raises:
            BusUnavailableError, StoreUnavailableError: retryable; other errors are fatal.
        """
        await self.make_topics()
        await settle_positions(
            self.pipeline, self.topics, STAGES, self.options, self.endpoints.store, start=None
        )

    async def make_topics(self) -> None:
        """Make the topics that are not there.

        Raises:
            BusUnavailableError: retryable; BusRefusedError, TopicError: fatal.
        """
        await ensure_topics(self.options, self.topics.all())

    async def forget_group(self, stage: str) -> None:
        """Delete the groups of a worker that does not run, and settle them as `up` would.

        Raises:
            BusUnavailableError, OwnershipLostError: retryable; other errors are fatal.
        """
        for group in groups_of((stage,)):
            await remove_group(self.options, f"{self.name}.{group}")
        await self.prepare()

    async def begin_anew(self, services: Services, kind: Kind) -> None:
        """Let telemetry, which is not there then, or every log, begin again at offset 0.

        What is on other topics by now is of a log that is gone, and left out from then on.

        Raises:
            BusUnavailableError: retryable; other errors are fatal.
        """
        if kind == "bus-lost":
            await services.lose_bus()
            self.handed_over.clear()
            self._begins.clear()
            return
        self.handed_over.update(Counter(await self.consumed()) - self.handed_over)
        telemetry = self.topics.telemetry.name
        names = [topic.name for topic in self.topics.all() if topic.name != telemetry]
        for name in names:
            ranges = await log_ranges(self.options, name)
            self._begins[name] = {partition: end for partition, (_, end) in ranges.items()}
        await remove_topics(self.options, [telemetry])

    async def ends(self, topic: str) -> dict[int, int]:
        """The offset after the last record of each partition of a topic.

        Where transactions write it, the last record lies before markers and aborted records.
        """
        found = await log_ranges(self.options, topic)
        if not self.once:
            return {partition: end for partition, (_, end) in found.items()}
        return {p: await self._last(topic, p, begin, end) for p, (begin, end) in found.items()}

    async def _last(self, topic: str, partition: int, begin: int, end: int) -> int:
        """The offset after the last committed record, found by looking further and further back."""
        for back in (16, 256, end - begin):
            start = max(begin, end - back)
            reading = read_range(self.options, topic, partition, start, end, read_committed=True)
            if found := [batch.next async for batch in reading]:
                return found[-1]
        return begin

    def sender(self, fleet: Fleet) -> Sender:
        """Sends a fleet's events to the telemetry topic."""
        topic = self.topics.telemetry.name

        async def end(partition: int) -> int:
            return (await log_range(self.options, topic, partition))[1]

        return Sender(KafkaBus(self.options).writer(topic), end, fleet)

    async def dump(self) -> Dump:
        """Every output topic from its beginning, as a reader of committed records sees it."""
        topics = self.topics
        read = (
            topics.features, topics.predictions, topics.deadletter, topics.late, topics.summaries
        )  # fmt: skip
        records = await asyncio.gather(*(self._records(topic.name) for topic in read))
        return Dump(self.name, topics.telemetry.name, *records)

    async def sent(self) -> dict[int, list[bytes]]:
        """Values of the telemetry topic by partition."""
        records = await self._records(self.topics.telemetry.name)
        return {partition: [value for _, value, _ in rows] for partition, rows in records.items()}

    async def online(self) -> dict[str, Rows]:
        """Of each view the online rows of every device: found, event times, values."""
        store = await open_store(self.endpoints.store, self.name)
        names = [f"d{device}" for device in range(DEVICES)]
        found: dict[str, Rows] = {}
        try:
            for view, spec in self.pipeline.stored_views().items():
                width = len(expand({view: spec}, self.pipeline.input.metric_names))
                rows = await store.read_rows(
                    view, names, width=width, ttl_s=spec.ttl_s, now_ms=START_MS
                )
                parts = (rows.found, rows.event_times_ms, rows.values)
                found[view] = (parts[0].tobytes(), parts[1].tobytes(), parts[2].tobytes())
        finally:
            await store.close()
        return found

    async def consumed(self) -> list[tuple[int, int]]:
        """Source partition and offset of everything that the shipped consumer hands over."""
        found: list[tuple[int, int]] = []
        topic = self.topics.predictions.name
        async with Consumer(self.endpoints.bus, topic, start="earliest", follow=False) as consumer:
            async for batch in consumer.batches():
                found += [
                    (int(item.source_place.rpartition("[")[2][:-1]), item.source_offset)
                    for item in batch
                ]
        return found

    async def _records(self, topic: str) -> Records:
        found: Records = {}
        for partition, (begin, end) in (await log_ranges(self.options, topic)).items():
            rows = found[partition] = []
            if begin:
                raise StateError(
                    f"{topic}[{partition}] begins at {begin}, expected 0: retention took a part of "
                    f"the drill before it was read; drill for fewer --seconds"
                )
            start = self._begins.get(topic, {}).get(partition, begin)
            reading = read_range(
                self.options, topic, partition, start, end, read_committed=self.once
            )
            async for batch in reading:
                headers: Sequence[Headers] = batch.headers or [()] * len(batch)
                values = [value or b"" for value in batch.values]
                rows += zip(batch.keys, values, headers, strict=True)
        return found
