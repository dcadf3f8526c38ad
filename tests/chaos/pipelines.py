"""The pipeline that the chaos tests run, and waits that `headrace up` needs."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from fakes.drill_pipeline import FILE
from fakes.onnx_models import mlp

from headrace.schemas.settings import BusSettings, StoreSettings
from headrace.streams.drill.target import Target
from headrace.streams.workers.jobs import Endpoints

DRAIN_S = 90.0


def make_target(
    folder: Path,
    name: str,
    bus: str,
    store: str,
    *,
    telemetry: str | None = None,
    mode: str = "at-least-once",
) -> Target:
    """A pipeline of this name on these services; `telemetry` is a topic to read instead of one."""
    file = folder / f"{name}.toml"
    named = f'telemetry = "{telemetry}"' if telemetry else ""
    file.write_text(FILE.format(name=name, telemetry=named, mode=mode))
    (folder / "model.onnx").write_bytes(mlp(8))
    places = Endpoints(bus=BusSettings(url=bus), store=StoreSettings(url=store), embedded=False)
    return Target(file, places)


async def committed(target: Target) -> None:
    """Wait until both groups have committed the end of what they read, whoever runs them."""
    give_up = time.monotonic() + DRAIN_S
    admin = AIOKafkaAdminClient(**target.options)
    await admin.start()
    try:
        for stage, topic in (
            ("enrich", target.topics.telemetry.name),
            ("serve", target.topics.features.name),
        ):
            while behind := await _behind(admin, target, stage, topic):
                assert time.monotonic() < give_up, f"{stage} is {behind} behind in {DRAIN_S} s"
                await asyncio.sleep(0.1)
    finally:
        await admin.close()


async def _behind(admin: AIOKafkaAdminClient, target: Target, stage: str, topic: str) -> int:
    found = await admin.list_consumer_group_offsets(f"{target.name}.{stage}")
    offsets = {tp.partition: place.offset for tp, place in found.items() if tp.topic == topic}
    return sum(max(0, end - offsets.get(p, 0)) for p, end in (await target.ends(topic)).items())
