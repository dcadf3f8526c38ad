"""One pipeline in this process, on a real Kafka and a real store that both may be ruined."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import OffsetAndMetadata
from fakes.onnx_models import mlp

from headrace.feature_store.open import open_store
from headrace.schemas.batch import RecordBatch
from headrace.schemas.block import FeatureBlock
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.settings import BusSettings, SnapshotSettings, StoreSettings
from headrace.schemas.topics import topics_of
from headrace.streams.bus.admin import ensure_topics
from headrace.streams.bus.options import client_options
from headrace.streams.bus.reads import log_ranges, read_range
from headrace.streams.bus.removal import remove_group, remove_topics
from headrace.streams.client.kafka_bus import KafkaBus
from headrace.streams.pipeline import plan_stage, run_stage
from headrace.streams.sites.positions import settle_positions
from headrace.streams.workers.jobs import Endpoints
from headrace.streams.workers.running_stage import RunningStage

DEADLINE_S = 60.0
START_MS = 1_795_255_200_000
BATCH_ROWS = 7

_path = Path(__file__).parents[1] / "feature_store" / "servers.py"
_spec = importlib.util.spec_from_file_location("feature_store_servers", _path)
assert _spec is not None
assert _spec.loader is not None
servers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(servers)

_FILE = """
name = "{name}"

[input]
time_unit = "ms"
max_skew_s = 1e9
allowed_lateness_s = 1e6

[input.metrics]
load = {{}}

[views.machine]
features = [
  {{ op = "raw", metrics = ["*"] }},
  {{ op = "ewma", metrics = ["*"], alpha = 0.1 }},
  {{ op = "delta", metrics = ["*"] }},
]

[model]
file = "model.onnx"

[topics]
partitions = {partitions}

[delivery]
mode = "{mode}"
start = "earliest"
batch_rows = {rows}
"""


class Flow:
    """ENRICH, and SERVE where asked for, over one partition.

    Args:
        folder: Pipeline file, model and snapshots.
        bus: ``kafka://host:port``.
        store: ``redis://…``.
        name: A name that is new to the bus.
        snapshots: Seconds between two; None for none.
        mode: Delivery mode.
        embedded: `bus` is the embedded one.
    """

    def __init__(
        self,
        folder: Path,
        bus: str,
        store: str,
        name: str,
        *,
        snapshots: float | None = None,
        mode: str = "at-least-once",
        embedded: bool = False,
    ) -> None:
        self.folder, self._name, self._mode = folder, name, mode
        (folder / "model.onnx").write_bytes(mlp(3))
        url = None if snapshots is None else str(folder / "snapshots")
        self.deploy(partitions=1)
        self.endpoints = Endpoints(
            bus=BusSettings(url=bus), store=StoreSettings(url=store), embedded=embedded,
            snapshots=SnapshotSettings(url=url, every_s=snapshots or 300.0),
        )  # fmt: skip
        self.options = client_options(self.endpoints.bus)
        self.running: dict[str, RunningStage] = {}

    def deploy(self, *, partitions: int) -> None:
        """Write the pipeline file."""
        file = self.folder / f"{self._name}.toml"
        file.write_text(
            _FILE.format(name=self._name, mode=self._mode, partitions=partitions, rows=BATCH_ROWS)
        )
        self.pipeline = load_pipeline(file)
        self.topics = topics_of(self.pipeline)

    async def prepare(self) -> None:
        """Make the topics."""
        await ensure_topics(self.options, self.topics.all())

    async def send(self, numbers: Iterable[int]) -> None:
        """Events of three devices, a second apart, whose loads follow no pattern."""
        numbers = list(numbers)
        writer = KafkaBus(self.options).writer(self.topics.telemetry.name)
        await writer.start()
        try:
            keys = [b"d%d" % (n % 3) for n in numbers]
            await writer.write(0, keys, [_event(n) for n in numbers], [[]] * len(numbers))
        finally:
            await writer.stop()

    @asynccontextmanager
    async def living(
        self, *stages: str, start: str | None = None
    ) -> AsyncIterator[dict[str, RunningStage]]:
        """Settled and ready while the body runs; then stopped in order."""
        stages = stages or ("enrich",)
        await settle_positions(
            self.pipeline, self.topics, stages, self.options, self.endpoints.store, start=start
        )
        stop = asyncio.Event()
        self.running = {
            stage: RunningStage(plan_stage(stage, self.pipeline, self.folder)) for stage in stages
        }
        tasks = [
            asyncio.create_task(run_stage(one, self.endpoints, stop))
            for one in self.running.values()
        ]
        body: asyncio.Task[Any] | None = asyncio.current_task()

        def ended(task: asyncio.Task[None]) -> None:
            if not stop.is_set() and body is not None:
                body.cancel()

        for task in tasks:
            task.add_done_callback(ended)
        try:
            give_up = time.monotonic() + DEADLINE_S
            while not all(one.ready for one in self.running.values()):
                assert time.monotonic() < give_up
                await asyncio.sleep(0.02)
            yield self.running
        except asyncio.CancelledError:
            for task in tasks:
                if task.done() and not task.cancelled() and task.exception() is not None:
                    raise task.exception() from None  # type: ignore[misc]
            raise
        finally:
            stop.set()
            await asyncio.wait(tasks, timeout=DEADLINE_S)
        for task in tasks:
            task.result()

    async def live(self, *stages: str, start: str | None = None) -> dict[str, RunningStage]:
        """One life, until everything there is was worked off."""
        async with self.living(*stages, start=start) as running:
            await self.drained(*(stages or ("enrich",)))
        return running

    async def drained(self, *stages: str) -> None:
        """Wait until the groups have committed the ends of their logs, SERVE's after ENRICH's."""
        give_up = time.monotonic() + DEADLINE_S
        for stage in stages or ("enrich",):
            topic = (self.topics.telemetry if stage == "enrich" else self.topics.features).name
            while True:
                end = (await log_ranges(self.options, topic))[0][1]
                at = await self.committed(stage)
                # The marker of a transaction is an offset of its own that nobody finishes.
                if at is not None and end - at <= (self.pipeline.delivery.mode != "at-least-once"):
                    break
                assert time.monotonic() < give_up, (stage, at, end)
                await asyncio.sleep(0.05)

    async def committed(self, stage: str) -> int | None:
        """The group's offset."""
        topic = (self.topics.telemetry if stage == "enrich" else self.topics.features).name
        if self.endpoints.embedded:  # which answers the admin client's question in another form
            return await self._committed_alone(topic, f"{self.pipeline.name}.{stage}")
        async with self.admin() as admin:
            found = await admin.list_consumer_group_offsets(f"{self.pipeline.name}.{stage}")
        place = found.get(TopicPartition(topic, 0))
        return None if place is None or place.offset < 0 else place.offset

    async def _committed_alone(self, topic: str, group: str) -> int | None:
        consumer = AIOKafkaConsumer(**self.options, group_id=group, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign([TopicPartition(topic, 0)])
            found: int | None = await consumer.committed(TopicPartition(topic, 0))
            return found
        finally:
            await consumer.stop()

    async def set_offset(self, stage: str, offset: int) -> None:
        """As Kafka's own tools do, while nobody is in the group."""
        topic = (self.topics.telemetry if stage == "enrich" else self.topics.features).name
        group = f"{self.pipeline.name}.{stage}"
        consumer = AIOKafkaConsumer(**self.options, group_id=group, enable_auto_commit=False)
        await consumer.start()
        try:
            part = TopicPartition(topic, 0)
            consumer.assign([part])
            await consumer.commit({part: OffsetAndMetadata(offset, "")})
        finally:
            await consumer.stop()

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(**self.options)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

    async def forget_group(self, stage: str) -> None:
        """Delete the group."""
        await remove_group(self.options, f"{self.pipeline.name}.{stage}")

    async def truncate(self, before: int) -> None:
        """What retention does."""
        async with self.admin() as admin:
            part = TopicPartition(self.topics.telemetry.name, 0)
            await admin.delete_records({part: RecordsToDelete(before_offset=before)})

    async def recreate_telemetry(self) -> None:
        """Delete the topic and make it anew."""
        await remove_topics(self.options, [self.topics.telemetry.name])
        await self.prepare()

    async def blocks(self) -> list[FeatureBlock]:
        """Every feature block, in the order of the log."""
        return [
            FeatureBlock.decode(value or b"")
            for value in await self._values(self.topics.features.name)
        ]

    async def features(self) -> list[tuple[int, str, bytes, bool]]:
        """Offset, event id, the bits of the features, and whether they are flagged `rebuilt`."""
        return [
            (int(offset), event.decode(), row.tobytes(), block.rebuilt)
            for block in await self.blocks()
            for offset, event, row in zip(
                block.offsets, block.event_ids, block.features, strict=True
            )
        ]

    async def predictions(self) -> list[dict[str, Any]]:
        """Every prediction, in the order of the log."""
        values = await self._values(self.topics.predictions.name)
        return [json.loads(value or b"") for value in values]

    async def remembered(self) -> str:
        """A hash of all that the store holds of ENRICH: state, position, and online rows."""
        store = await open_store(self.endpoints.store, self.pipeline.name)
        try:
            found = await store.read(f"enrich/{self.topics.telemetry.name}/0")
            rows = await store.read_rows(
                "machine", ["d0", "d1", "d2"], width=3, ttl_s=1e12, now_ms=START_MS
            )
        finally:
            await store.close()
        assert found is not None
        state = plan_stage("enrich", self.pipeline, self.folder).agent.new_state("", 0)
        # The same state may lie in other fields: ids by batch, or by segment.
        state.load(found.fields)
        digest = hashlib.blake2b(rows.values.tobytes() + rows.event_times_ms.tobytes())
        for field in sorted(state.dump()):
            digest.update(repr(field).encode())
        return f"{found.meta.position} {digest.hexdigest()}"

    async def _values(self, topic: str) -> list[bytes | None]:
        begin, end = (await log_ranges(self.options, topic))[0]
        return [
            value
            async for records in read_range(self.options, topic, 0, begin, end, read_committed=True)
            for value in records.values
        ]

    async def without_faults(self, numbers: Sequence[int]) -> list[bytes]:
        """The features of these events, folded in one piece by an agent of its own."""
        agent = plan_stage("enrich", self.pipeline, self.folder).agent
        offsets = np.arange(len(numbers))
        records = RecordBatch(
            self.topics.telemetry.name, 0, offsets, np.full(len(numbers), START_MS * 2),
            [b"d%d" % (n % 3) for n in numbers], [_event(n) for n in numbers],
        )  # fmt: skip
        state = agent.new_state(self.topics.telemetry.name, 0)
        effects = await agent.process(state, records, rebuilt=False)
        values = [v for o in effects.outputs for v in o.values]
        return [row.tobytes() for v in values for row in FeatureBlock.decode(v).features]


def _event(number: int) -> bytes:
    load = (number * 2654435761 % 1000) / 7.0
    event = {"id": f"e{number}", "device_id": f"d{number % 3}", "time": START_MS + 1000 * number}
    return json.dumps({**event, "metrics": {"load": load}}).encode()
