"""Pipelines that a campaign runs, and what they leave on the bus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from aiokafka.admin import AIOKafkaAdminClient
from chaos.ledger import Dump, Records
from chaos.load import DEVICES, LATENESS_MS, PARTITIONS, START_MS
from fakes.onnx_models import mlp

from headrace.feature_store.open import open_store
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.settings import BusSettings, StoreSettings
from headrace.schemas.topics import topics_of
from headrace.streams.jobs import STAGES, Endpoints
from headrace.streams.kafka import client_options, ensure_topics, log_ranges, read_range
from headrace.streams.positions import settle_positions

BATCH_ROWS = 500
DRAIN_S = 90.0
Mode = Literal["at-least-once", "exactly-once"]

_FILE = """
name = "{name}"

[input]
max_skew_s = 1e9
allowed_lateness_s = {lateness_s}

[input.metrics]
load = {{ min = 0.0, max = 10.0 }}
heat = {{}}

[views.machine]
features = [
  {{ op = "raw", metrics = ["*"] }}, {{ op = "ewma", metrics = ["*"], alpha = 0.1 }},
  {{ op = "delta", metrics = ["load"] }}, {{ op = "count", window_s = 4.0 }},
  {{ op = "std", metrics = ["heat"], window_s = 4.0 }},
  {{ op = "zscore", metrics = ["load"], warm_up = 3 }},
]

[model]
file = "model.onnx"
name = "mlp"

[summary]
window_s = 1.0
metrics = ["load", "heat"]

[topics]
partitions = {partitions}
{telemetry}

[delivery]
mode = "{mode}"
start = "earliest"
batch_rows = {batch_rows}
"""


class Pipe:
    """One pipeline: its file, its topics, and what is on them.

    Args:
        folder: Where pipeline file and model go.
        name: A name that is new to bus and store.
        bus: ``kafka://host:port``.
        store: ``redis://…``.
        telemetry: Topic to read; None makes one.
        mode: Delivery mode.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        bus: str,
        store: str,
        *,
        telemetry: str | None = None,
        mode: Mode = "at-least-once",
    ) -> None:
        self.name, self.folder = name, folder
        self.file = folder / f"{name}.toml"
        self.file.write_text(
            _FILE.format(
                name=name,
                mode=mode,
                lateness_s=LATENESS_MS / 1000,
                partitions=PARTITIONS,
                telemetry=f'telemetry = "{telemetry}"' if telemetry else "",
                batch_rows=BATCH_ROWS,
            )
        )
        (folder / "model.onnx").write_bytes(mlp(8))
        self.endpoints = Endpoints(
            bus=BusSettings(url=bus), store=StoreSettings(url=store), embedded=False
        )
        self.options = client_options(self.endpoints.bus)
        self.pipeline = load_pipeline(self.file)
        self.topics = topics_of(self.pipeline)

    async def prepare(self) -> None:
        """Make the topics, and settle where the groups begin."""
        await ensure_topics(self.options, self.topics.all())
        await settle_positions(
            self.pipeline, self.topics, STAGES, self.options, self.endpoints.store, start=None
        )

    async def drained(self) -> None:
        """Wait until both groups have committed the end of what they read."""
        give_up = time.monotonic() + DRAIN_S
        admin = AIOKafkaAdminClient(**self.options)
        await admin.start()
        try:
            for stage, topic in (
                ("enrich", self.topics.telemetry),
                ("serve", self.topics.features),
            ):
                while behind := await self._behind(admin, stage, topic.name):
                    assert time.monotonic() < give_up, f"{stage} is {behind} behind in {DRAIN_S} s"
                    await asyncio.sleep(0.1)
        finally:
            await admin.close()

    async def _behind(self, admin: AIOKafkaAdminClient, stage: str, topic: str) -> int:
        ends = await log_ranges(self.options, topic)
        found = await admin.list_consumer_group_offsets(f"{self.name}.{stage}")
        offsets = {tp.partition: place.offset for tp, place in found.items() if tp.topic == topic}
        behind = {p: (offsets.get(p, 0), end) for p, (_, end) in ends.items()}
        return sum([await self._records_in(topic, p, *place) for p, place in behind.items()])

    async def _records_in(self, topic: str, partition: int, start: int, stop: int) -> int:
        """How many records lie there; markers of transactions are none."""
        if stop - start > BATCH_ROWS:
            return stop - start
        reading = read_range(self.options, topic, partition, start, stop, read_committed=True)
        return sum([len(batch) async for batch in reading])

    async def dump(self) -> Dump:
        """Every output topic from its beginning, as a reader of committed records sees it."""
        topics = self.topics
        read = (
            topics.features, topics.predictions, topics.deadletter, topics.late, topics.summaries
        )  # fmt: skip
        records = await asyncio.gather(*(self._records(topic.name) for topic in read))
        return Dump(self.name, topics.telemetry.name, *records)

    async def online(self) -> tuple[bytes, bytes, bytes]:
        """The online rows of every device: found, event times, values."""
        store = await open_store(self.endpoints.store, self.name)
        names = [f"d{device}" for device in range(DEVICES)]
        width = len(self.pipeline.columns())
        try:
            rows = await store.read_rows(
                "machine", names, width=width, ttl_s=86_400.0, now_ms=START_MS
            )
        finally:
            await store.close()
        assert rows.found.all()
        return rows.found.tobytes(), rows.event_times_ms.tobytes(), rows.values.tobytes()

    async def aborted(self) -> int:
        """Records of features and predictions that only a reader of uncommitted records sees."""
        count = 0
        for topic in (self.topics.features.name, self.topics.predictions.name):
            for partition, place in (await log_ranges(self.options, topic)).items():
                for sign, committed in ((1, False), (-1, True)):
                    reading = read_range(
                        self.options, topic, partition, *place, read_committed=committed
                    )
                    count += sign * sum([len(batch) async for batch in reading])
        return count

    async def sent(self) -> dict[int, list[bytes]]:
        """Values of the telemetry topic by partition."""
        records = await self._records(self.topics.telemetry.name)
        return {partition: [value for _, value, _ in rows] for partition, rows in records.items()}

    async def _records(self, topic: str) -> Records:
        found: Records = {}
        for partition, (begin, end) in (await log_ranges(self.options, topic)).items():
            rows = found[partition] = []
            reading = read_range(self.options, topic, partition, begin, end, read_committed=True)
            async for batch in reading:
                headers: Sequence = batch.headers or [()] * len(batch)
                values = [value or b"" for value in batch.values]
                rows += zip(batch.keys, values, headers, strict=True)
        return found
