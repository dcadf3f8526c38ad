"""A pipeline whose mapping is wrong and then mended, its ENRICH worker, and the command."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fakes.onnx_models import mlp
from integration.transport.harness import Bus

from headrace.schemas.batch import RecordBatch
from headrace.schemas.block import FeatureBlock
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.settings import BusSettings, StoreSettings
from headrace.schemas.topics import topics_of
from headrace.streams.bus.admin import ensure_topics
from headrace.streams.bus.options import client_options
from headrace.streams.bus.reads import log_ranges, read_range
from headrace.streams.client.deadletters import DeadLetter, DeadLetters
from headrace.streams.client.kafka_bus import KafkaBus
from headrace.streams.drill.workers import Workers
from headrace.streams.sites.positions import settle_positions
from headrace.streams.workers.jobs import Endpoints

COMMAND = "from headrace.streams.cli.main import main; main()"
DEADLINE_S = 60.0
START_MS = 1_795_255_200_000
WRONG_MAX, RIGHT_MAX = 10.0, 100.0
GOOD, HOT = 5.0, 50.0
"""A load that every mapping takes, and one that the wrong mapping holds for impossible."""

_FILE = """
name = "{name}"

[input]
time_unit = "ms"
max_skew_s = 1e9
allowed_lateness_s = {lateness_s}

[input.metrics]
load = {{ max = {top} }}

[views.machine]
features = [{{ op = "raw", metrics = ["*"] }}, {{ op = "ewma", metrics = ["*"], alpha = 0.1 }}]

[model]
file = "model.onnx"

[topics]
partitions = 2

[delivery]
start = "earliest"
batch_rows = 200
dead_letter_share = {share}
dead_letter_min = 1000
"""


class Plant:
    """One pipeline on one bus.

    Args:
        folder: Where pipeline file and model go.
        bus: ``kafka://host:port``.
        store: ``redis://…``.
        name: A name that is new to both.
        embedded: The bus is the embedded one.
    """

    def __init__(self, folder: Path, bus: str, store: str, name: str, *, embedded: bool) -> None:
        self.folder, self.name, self.file = folder, name, folder / f"{name}.toml"
        self.orders = self.file.with_suffix(".orders")
        self.endpoints = Endpoints(
            bus=BusSettings(url=bus), store=StoreSettings(url=store), embedded=embedded
        )
        self.for_workers = self.endpoints
        self.options = client_options(self.endpoints.bus)
        own = {k: v for k, v in os.environ.items() if not k.startswith("HEADRACE_")}
        self.environ = {**own, "HEADRACE_BUS": bus, "HEADRACE_STORE": store}
        (folder / "model.onnx").write_bytes(mlp(2))
        self.map(WRONG_MAX)

    def map(self, top: float, *, share: float = 1.0, lateness_s: float = 1e6) -> None:
        """Deploy a mapping."""
        self.file.write_text(
            _FILE.format(name=self.name, top=top, share=share, lateness_s=lateness_s)
        )
        self.pipeline = load_pipeline(self.file)
        self.topics = topics_of(self.pipeline)

    async def prepare(self) -> None:
        """Make the topics, and settle where ENRICH begins."""
        await ensure_topics(self.options, self.topics.all())
        await settle_positions(
            self.pipeline, self.topics, ["enrich"], self.options, None, start=None
        )

    async def send(self, loads: Sequence[float], *, first: int = 0, partition: int = 0) -> None:
        """Events `e<first>`… of one device, a second apart, each with a header of its own."""
        writer = KafkaBus(self.options).writer(self.topics.telemetry.name)
        await writer.start()
        numbers = range(first, first + len(loads))
        try:
            await writer.write(
                partition,
                [b"d0"] * len(loads),
                [_event(n, load) for n, load in zip(numbers, loads, strict=True)],
                [[("number", b"%d" % n)] for n in numbers],
            )
        finally:
            await writer.stop()

    @asynccontextmanager
    async def enriching(self):
        """An ENRICH worker that has worked off the telemetry when the body is left."""
        workers = Workers(self)
        try:
            workers.start("enrich")
            await workers.ready()
            yield
            await self.drained()
            await workers.stop()
        finally:
            workers.end()

    async def enrich(self) -> None:
        """Let a worker work off what there is."""
        async with self.enriching():
            pass

    async def drained(self) -> None:
        """Wait until the group has committed the end of the log."""
        give_up = time.monotonic() + DEADLINE_S
        ranges = await log_ranges(self.options, self.topics.telemetry.name)
        ends = [ranges[partition][1] for partition in sorted(ranges)]
        while [offset or 0 for offset in await self.committed()] != ends:
            assert time.monotonic() < give_up, (await self.committed(), ends)
            await asyncio.sleep(0.1)

    async def committed(self) -> list[int | None]:
        """ENRICH's offsets by partition."""
        bus = Bus(str(self.options["bootstrap_servers"][0]), self.endpoints.embedded)
        return await bus.committed(f"{self.name}.enrich", self.topics.telemetry.name, 2)

    async def featured(self) -> Counter[str]:
        """How often each event id has features."""
        found: Counter[str] = Counter()
        for records in await self._read(self.topics.features.name):
            for value in records.values:
                found.update(i.decode() for i in FeatureBlock.decode(value).event_ids)
        return found

    async def dead(self) -> list[DeadLetter]:
        """Everything on the dead-letter topic, marks too."""
        parts = [DeadLetters().read(r) for r in await self._read(self.topics.deadletter.name)]
        return [letter for part in parts for letter in part]

    async def late(self) -> int:
        """How many events came too late."""
        return sum(map(len, await self._read(self.topics.late.name)))

    async def telemetry(self) -> int:
        """How many records the telemetry topic holds."""
        return sum(map(len, await self._read(self.topics.telemetry.name)))

    async def _read(self, topic: str) -> list[RecordBatch]:
        """Everything on a topic."""
        return [
            records
            for partition, (begin, end) in (await log_ranges(self.options, topic)).items()
            async for records in read_range(self.options, topic, partition, begin, end)
        ]

    def run(self, *args: str, code: str = COMMAND) -> subprocess.CompletedProcess[bytes]:
        """One command to its end."""
        return subprocess.run(
            [sys.executable, "-c", code, *args],
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
            env=self.environ,
            cwd=self.folder,
        )

    def deadletter(self, what: str, *args: str) -> dict[str, Any]:
        """`headrace deadletter` that succeeds, as JSON."""
        done = self.run("deadletter", what, str(self.file), *args, "--json")
        assert done.returncode == 0, done.stderr.decode()
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


def _event(number: int, load: float) -> bytes:
    event = {"id": f"e{number}", "device_id": "d0", "time": START_MS + 1000 * number}
    return json.dumps({**event, "metrics": {"load": load}}).encode()
