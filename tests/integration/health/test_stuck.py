"""A stage that hangs without an error: found, named, started again, and nothing is lost."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.settings import BusSettings, Settings, WorkerSettings
from headrace.streams.cli.context import pipeline_file
from headrace.streams.client import Producer
from headrace.streams.sites.assembly import Site

pytestmark = [pytest.mark.integration, pytest.mark.slow]

WORKER = Path(__file__).with_name("hanging_worker.py")
EVENTS = 20


async def until(found: Callable[[], bool], health: Callable[[], object]) -> None:
    """Poll until `found()`."""
    try:
        async with asyncio.timeout(60):
            while not found():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(health()) from None


async def test_a_hang_is_named_and_mended(tmp_path: Path) -> None:
    """Publishing never returns, bus and store answer: stuck, with the step; mended by a restart."""
    example = pipeline_file("hosts").parent
    for name in ("pipeline.toml", "model.onnx", "golden.json"):
        shutil.copy(example / name, tmp_path / name)
    file = tmp_path / "pipeline.toml"
    file.write_text(
        f"{file.read_text('utf-8')}\n[delivery]\nstuck_after_s = 2\nstuck_restart_s = 4\n", "utf-8"
    )
    pipeline = load_pipeline(file)
    settings = Settings(
        bus=BusSettings(kind="embedded"), worker=WorkerSettings(data_dir=str(tmp_path / "data"))
    )
    site = Site(file, pipeline, settings, stages=["enrich"])
    [worker] = site.supervisor.workers
    worker.command = [sys.executable, "-u", str(WORKER), "enrich", str(file)]
    hang = tmp_path / "hang"
    hang.touch()
    try:
        endpoints = await site.start()
        await site.supervisor.ready()
        async with Producer(endpoints.bus, pipeline) as producer:
            for number in range(EVENTS):
                metrics = {name: float(number) for name in pipeline.input.metric_names}
                await producer.emit("cpu-0", metrics)

        await until(lambda: bool(site.health.not_live()), site.health.facts)
        [line] = site.health.not_live()
        assert line.startswith(f"enrich is stuck: {worker.status.topic}[")
        assert "(step publish for " in line
        assert site.health.not_ready() == [line]
        hang.unlink()

        await until(
            lambda: worker.status is not None and worker.status.events.get("out", 0) == EVENTS,
            site.health.facts,
        )
        await until(lambda: not site.health.not_ready(), site.health.facts)
        assert worker.restarts == 1
        assert site.health.not_live() == []
        assert msgspec.structs.asdict(worker.status)["lag"] == 0
    finally:
        await site.stop()
