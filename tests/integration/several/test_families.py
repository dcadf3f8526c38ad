"""Streams of several kinds on one bus, each with its own contract; a later one disturbs none."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes.onnx_models import mlp
from integration.health.probing import Site
from integration.setup.command import Setup
from integration.transport.harness import Bus

from headrace.feature_store.open import open_store
from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.schemas.settings import BusSettings, StoreSettings
from headrace.schemas.topics import topics_of
from headrace.streams.client import Consumer, Producer
from headrace.streams.client.clock import wall_clock
from headrace.streams.client.deadletters import Wanted, selected
from headrace.streams.online_rows import read_view

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="its processes are found in /proc"),
]

DEADLINE_S = 20.0
PARTITIONS = 2

TELEMETRY = """
entity = "device"
id = "n"
time = "at"
time_unit = "ms"
raw = ["picture"]
metrics = { power_kw = { required = false }, temp_c = { required = false } }
attributes.kind = { values = ["press", "camera", "gateway"] }
"""
SIGNALS = """
entity = "user"
entity_personal = true
id = "n"
time = "at"
time_unit = "ms"
metrics = { dwell_s = { min = 0.0 } }
attributes.action = { values = ["opened", "closed"] }
"""
LABELS = """
entity = "device"
id = "n"
time = "at"
time_unit = "ms"
metrics = { defects = { min = 0.0 } }
attributes.verdict = { values = ["scrap", "good"] }
"""
OF_SITE = TELEMETRY.replace('"device"', '"site"', 1) + "rekey = true\n"
"""The same telemetry, and another entity: all devices of a site are one row."""

RAW = '[{ op = "raw", metrics = ["*"] }]'
MERGED = """[
  { op = "sum", metrics = ["power_kw"], window_s = 60.0, tile_s = 1.0 },
  { op = "max", metrics = ["temp_c"], window_s = 60.0, tile_s = 1.0 },
  { op = "count", window_s = 60.0, tile_s = 1.0 },
]"""


class Plant:
    """One folder of pipeline files, the bus and store of the first `up`, and what is sent."""

    def __init__(self, setup: Setup, unique: Callable[[str], str]) -> None:
        self.setup, self._unique = setup, unique
        self.pipelines: dict[str, Pipeline] = {}

    @property
    def bus(self) -> BusSettings:
        """Where the bus is."""
        return BusSettings(url=self.setup.environ["HEADRACE_BUS"])

    def file(self, role: str) -> Path:
        """A pipeline file."""
        return self.setup.folder / f"{role}.toml"

    def declare(
        self, role: str, spec: str, *, width: int, features: str = RAW, telemetry: str = ""
    ) -> None:
        """Write a pipeline file; that and a model are all there is to a stream."""
        name = self._unique(role)
        (self.setup.folder / f"{role}.onnx").write_bytes(mlp(width))
        existing = f'telemetry = "{telemetry}"' if telemetry else ""
        self.file(role).write_text(
            f'name = "{name}"\n[input]{spec}\n[views.now]\nfeatures = {features}\n'
            f'[model]\nfile = "{role}.onnx"\n[topics]\npartitions = {PARTITIONS}\n{existing}\n'
            '[delivery]\nstart = "earliest"\n',
            "utf-8",
        )
        self.pipelines[role] = load_pipeline(self.file(role))

    @contextmanager
    def up(self, *roles: str) -> Iterator[Site]:
        """Run pipelines by one command, which ends in order; the first brings bus and store."""
        with self.setup.start("up", *(str(self.file(role)) for role in roles)) as command:
            assert command.process.stdout is not None
            health = command.process.stdout.readline()
            assert health.startswith("health: "), command.end()
            if "HEADRACE_BUS" not in self.setup.environ:
                # What a user pastes into the second terminal, where nothing else is set.
                del self.setup.environ["HEADRACE_BUS_KIND"]
                export = command.process.stdout.readline()
                self.setup.environ |= dict(word.split("=", 1) for word in export.split()[1:])
            site = Site(self.setup, health.split()[1].removesuffix("/healthz"))
            site.until_ready()
            yield site
            command.process.send_signal(signal.SIGTERM)
            said = command.end()
            assert said.code == 0, said

    async def send(self, role: str, *events: dict[str, object]) -> None:
        """Events to a pipeline's telemetry, keyed by their device where they name one."""
        async with Producer(self.bus, self.pipelines[role], validate=False) as producer:
            for event in events:
                key = str(event["device"]).encode() if "device" in event else None
                await producer.send(key, json.dumps(event).encode())

    async def predicted(self, role: str, count: int) -> list[str]:
        """Event ids of the first `count` predictions of a pipeline, sorted."""
        async with Consumer(self.bus, self.pipelines[role], start="earliest") as predictions:
            async with asyncio.timeout(DEADLINE_S):
                return sorted([(await anext(predictions)).event_id for _ in range(count)])

    async def dead(self, role: str) -> Counter[str]:
        """Dead letters of a pipeline by code."""
        wanted = Wanted()
        letters = selected(self.bus, self.pipelines[role], wanted)
        return Counter([letter.code async for batch in letters for letter in batch])

    async def committed(self, role: str) -> int:
        """How far ENRICH's group of a pipeline is on its telemetry, all partitions together."""
        name, topic = self.pipelines[role].name, topics_of(self.pipelines[role]).telemetry.name
        bus = Bus(self.bus.url.removeprefix("kafka://"), embedded=True)
        return sum(at or 0 for at in await bus.committed(f"{name}.enrich", topic, PARTITIONS))

    async def row(self, role: str, entity: str) -> dict[str, float] | None:
        """What the store holds of an entity now."""
        store = await open_store(
            StoreSettings(url=self.setup.environ["HEADRACE_STORE"]), self.pipelines[role].name
        )
        try:
            now_ms = round(wall_clock() * 1000)
            names, found = await read_view(
                store, self.pipelines[role], "now", [entity], now_ms=now_ms
            )
        finally:
            await store.close()
        values = found.values[0].tolist()
        return dict(zip(names, values, strict=True)) if found.found[0] else None


async def until(look: Callable[[], Awaitable[object]], wanted: object) -> None:
    """Wait until something is as wanted."""
    give_up = time.monotonic() + DEADLINE_S
    while (found := await look()) != wanted:
        assert time.monotonic() < give_up, found
        await asyncio.sleep(0.1)


@pytest.fixture
def plant(tmp_path: Path, unique: Callable[[str], str]) -> Plant:
    """Three streams; nothing runs yet."""
    setup = Setup(tmp_path)
    setup.folder.mkdir()
    setup.environ |= {
        "HEADRACE_BUS_KIND": "embedded",
        "HEADRACE_WORKER_DATA_DIR": str(tmp_path / "data"),
        "HEADRACE_HEALTH": "127.0.0.1:0",
    }
    made = Plant(setup, unique)
    made.declare("telemetry", TELEMETRY, width=2)
    made.declare("signals", SIGNALS, width=1)
    made.declare("labels", LABELS, width=1)
    return made


def reading(name: str, kind: str, **metrics: float) -> dict[str, object]:
    """One device's event at the site ``halle``."""
    return {
        "n": name,
        "device": f"{kind}-1",
        "site": "halle",
        "kind": kind,
        "at": round(wall_clock() * 1000),
        "metrics": metrics,
        "picture": "raw",
    }


async def test_each_kind_of_signal_has_its_stream_and_a_site_is_one_row_of_all_its_devices(
    plant: Plant,
) -> None:
    """Telemetry, interactions and labelled events reach their own consumers under own contracts.

    A further pipeline on the same telemetry is a file: the first one's offsets and its producers
    do not change, and devices of three kinds become one row of their site.
    """
    now_ms = round(wall_clock() * 1000)
    opened = {"n": "s1", "user": "u-7", "at": now_ms, "action": "opened", "metrics": {"dwell_s": 2}}
    scrap = {"n": "l1", "device": "press-1", "at": now_ms, "verdict": "scrap"}
    with plant.up("telemetry", "signals", "labels"):
        await plant.send("telemetry", reading("t1", "press", power_kw=4.5, temp_c=61.0))
        await plant.send("signals", opened)
        # The second one is in the wrong place.
        await plant.send("labels", {**scrap, "metrics": {"defects": 3}}, opened)

        assert await plant.predicted("telemetry", 1) == ["t1"]
        assert await plant.predicted("signals", 1) == ["s1"]
        assert await plant.predicted("labels", 1) == ["l1"]
        await until(lambda: plant.dead("labels"), {"entity.missing": 1})
        await until(lambda: plant.committed("telemetry"), 1)

        existing = topics_of(plant.pipelines["telemetry"]).telemetry.name
        plant.declare("site", OF_SITE, width=3, features=MERGED, telemetry=existing)
        with plant.up("site"):
            row = {"power_kw_sum_60s": 4.5, "temp_c_max_60s": 61.0, "count_60s": 1.0}
            await until(lambda: plant.row("site", "halle"), row)
            assert await plant.committed("telemetry") == 1
            others = reading("t2", "camera", temp_c=38.0), reading("t3", "gateway", power_kw=0.5)
            await plant.send("telemetry", *others)
            row = {"power_kw_sum_60s": 5.0, "temp_c_max_60s": 61.0, "count_60s": 3.0}
            await until(lambda: plant.row("site", "halle"), row)
            assert await plant.predicted("site", 3) == ["t1", "t2", "t3"]
        assert await plant.predicted("telemetry", 3) == ["t1", "t2", "t3"]
        camera = await plant.row("telemetry", "camera-1")
        assert camera is not None
        assert camera["temp_c_raw"] == 38.0
    assert plant.setup.running() == {}
