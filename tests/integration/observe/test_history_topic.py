"""The history on a bus: written, printed, and gone on with."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from headrace.schemas.objectives import Objective, Objectives
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.settings import BusSettings
from headrace.schemas.topics import topics_of
from headrace.streams.bus.admin import ensure_topics
from headrace.streams.bus.options import client_options
from headrace.streams.cli.observe import show
from headrace.streams.client.kafka_bus import KafkaBus
from headrace.streams.observe.history import History
from headrace.streams.observe.history_topic import HistoryTopic, newest_records
from headrace.streams.observe.objectives import ObjectiveBook
from headrace.streams.observe.readings import Readings
from headrace.streams.workers.supervisor import Supervisor

FILE = Path(__file__).parents[3] / "examples" / "press" / "pipeline.toml"
SAMPLE = ("headrace_stream_events_total", ("press", "serve", "out"))


async def life(url: str, topic: str, events: int, records: int) -> ObjectiveBook:
    """One `up` that counts so many events, and is stopped once so many records are there."""
    pipeline = msgspec.structs.replace(
        load_pipeline(FILE), slo=Objectives(site={"served": Objective(kind="success")})
    )
    readings = Readings(pipeline.name, Supervisor(FILE, ()))
    book = ObjectiveBook(pipeline.name, pipeline.slo, lambda: "unknown")
    options = client_options(BusSettings(url=url))
    history = History(pipeline, readings, book, "here")
    keeping = asyncio.create_task(HistoryTopic(options, topic, history, every_s=0.05).run())
    loop = asyncio.get_running_loop()
    book.observe(loop.time(), 0, {SAMPLE: float(events)}, {})
    async with asyncio.timeout(20):
        while len(await newest_records(options, topic, 99)) < records:
            await asyncio.sleep(0.05)
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping
    return book


async def test_a_restart_goes_on(tansu_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Budgets of both lives are one; what is not ours on the topic is passed over."""
    name = f"history-{uuid.uuid4().hex[:8]}"
    pipeline = msgspec.structs.replace(load_pipeline(FILE), name=name)
    spec = topics_of(pipeline).observed
    options = client_options(BusSettings(url=tansu_url))
    await ensure_topics(options, [spec])
    await life(tansu_url, spec.name, 30, 1)
    writer = KafkaBus(options).writer(spec.name)
    await writer.start()
    await writer.write(0, [None], [b"somebody else's"], [()])
    await writer.stop()
    before = len(await newest_records(options, spec.name, 99))

    book = await life(tansu_url, spec.name, 12, before + 1)

    (state,) = book.states()
    assert (state.good, state.bad) == (42, 0)
    since_ms = time.time_ns() // 10**6 - 60_000
    await show(options, spec.name, since_ms, as_json=True)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    await show(options, spec.name, since_ms, as_json=False)
    shown = capsys.readouterr().out
    assert sum(budget["good"] for row in rows for budget in row["budgets"]) == 42
    assert len({row["life"] for row in rows}) == 2
    assert shown.count("site.served 100.0% left") == len(rows)
