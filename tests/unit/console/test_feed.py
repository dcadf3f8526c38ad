"""Snapshots of a pipeline: made while somebody looks, also where the bus is away."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fakes.predicted import predicted

from headrace.schemas.batch import RecordBatch
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.settings import BusSettings, StoreSettings
from headrace.streams.bus.options import client_options
from headrace.streams.client.latency import BINS
from headrace.streams.console import feed as feeding
from headrace.streams.console.feed import Feed
from headrace.streams.console.shown import Shown
from headrace.streams.health.site_health import SiteHealth
from headrace.streams.health.verdict import Limits
from headrace.streams.observe.hops import encode_bins
from headrace.streams.observe.readings import Readings
from headrace.streams.observe.site_watch import SiteWatch
from headrace.streams.workers.jobs import STAGES, Seen, Status, groups_of
from headrace.streams.workers.supervisor import Supervisor

FILE = Path(__file__).parents[3] / "examples" / "press" / "pipeline.toml"


@pytest.fixture
async def feed(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Feed]:
    """Of a pipeline whose workers told something, and whose bus is away."""
    monkeypatch.setattr(feeding, "EVERY_S", 0.01)
    monkeypatch.setattr(feeding, "LINGER_S", 0.0)
    pipeline, supervisor = load_pipeline(FILE), Supervisor(FILE, STAGES)
    readings = Readings(pipeline.name, supervisor)
    for worker in supervisor.workers:
        status = Status(stage=worker.stage, ready=True, raw_bytes=1000, rows=30, cached=10, calls=5)
        for tell in supervisor.told:
            tell(worker, status)
    health = SiteHealth(supervisor, Limits(), pipeline.name)
    watched = SiteWatch(pipeline, readings, health, STAGES)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    bus = client_options(BusSettings(url=f"kafka://127.0.0.1:{port}"))
    made = Feed(Shown(pipeline, watched, readings, bus, StoreSettings()))
    yield made
    await made.stop()


async def first(feed: Feed, seen: Any) -> dict[str, Any]:
    """The first snapshot that is as wanted."""
    async with asyncio.timeout(10), aclosing(feed.snapshots()) as snapshots:
        async for made in snapshots:
            found: dict[str, Any] = json.loads(made)
            if seen(found):
                return found
    raise AssertionError("unreachable")


async def test_what_is_known_is_shown_and_what_is_away_is_told(feed: Feed) -> None:
    """Counts of the workers, the model of the file, and the bus by name."""
    found = await first(feed, lambda found: len(found["trouble"]) == 2)
    assert [line.partition(":")[0] for line in found["trouble"]] == ["dead letters", "predictions"]
    assert found["model"]["name"] == load_pipeline(FILE).model.name
    assert (found["model"]["rows"], found["model"]["cached"], found["model"]["calls"]) == (
        60,
        20,
        10,
    )
    assert found["bytes"] == {"raw": 1000, "upstream": 0}
    assert found["devices"] == {"known": 0, "ranked": []}
    assert [stage["stage"] for stage in found["view"]["stages"]] == list(groups_of(STAGES))
    assert found["view"]["ready"] is False


async def test_viewers_share_and_leave_one_by_one(feed: Feed) -> None:
    """One that leaves takes nothing from the other; with the last, all of it ends."""
    async with asyncio.timeout(10):
        one, two = feed.snapshots(), feed.snapshots()
        assert len(set(await asyncio.gather(anext(one), anext(two)))) == 1
        await one.aclose()
        await anext(two)
        await anext(two)
        running = feed._running
        assert running is not None
        assert not running.done()
        await two.aclose()
        await asyncio.gather(running, return_exceptions=True)
        assert running.done()
        assert (await first(feed, lambda _: True))["view"]["pipeline"] == "press"


async def test_a_viewer_that_is_cancelled_harms_no_other(feed: Feed) -> None:
    """The connection of one breaks while both wait."""
    async with asyncio.timeout(10), aclosing(feed.snapshots()) as stays:
        await anext(stays)
        leaving = feed.snapshots()
        waiting = asyncio.create_task(anext(leaving))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await leaving.aclose()
        for _ in range(3):
            assert json.loads(await anext(stays))["view"]["pipeline"] == "press"


async def test_who_comes_as_the_last_one_leaves_is_served(feed: Feed) -> None:
    """What is being ended then is not waited for."""
    for _ in range(3):
        await first(feed, lambda _: True)
        await asyncio.sleep(0)


async def test_who_comes_waits_for_nothing(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first devices are shown as they are found, and the newest snapshot to who comes next."""
    monkeypatch.setattr(feeding, "EVERY_S", 3600.0)
    found = asyncio.Event()

    async def looks(*_: object, **__: object) -> AsyncIterator[list[RecordBatch]]:
        await found.wait()
        yield [batch_of("press-1")]
        await asyncio.Event().wait()

    monkeypatch.setattr(feeding, "newest", looks)
    async with asyncio.timeout(10), aclosing(feed.snapshots()) as one:
        assert json.loads(await anext(one))["devices"]["known"] == 0
        found.set()
        made = await anext(one)
        assert json.loads(made)["devices"]["known"] == 1
        async with aclosing(feed.snapshots()) as another:
            assert await anext(another) == made


def batch_of(device: str) -> RecordBatch:
    """A prediction of a device, as the topic holds it."""
    value = msgspec.json.encode(predicted(device, 0.5))
    return RecordBatch("p", 0, np.arange(1), np.arange(1), [device.encode()], [value])


async def test_it_begins_with_the_page_and_ends_where_nobody_stays(feed: Feed) -> None:
    """The devices are looked for while the browser still reads scripts."""
    feed.expect()
    running = feed._running
    assert running is not None
    async with asyncio.timeout(10):
        await asyncio.wait({running})
    assert running.cancelled()
    assert feed._running is None


async def test_who_begins_anew_is_shown_nothing_old(feed: Feed) -> None:
    """A last snapshot may be made while a look is being ended; hours later it is no news."""
    await first(feed, lambda _: True)
    await asyncio.wait(set(feed._tasks), timeout=10)
    feed._newest = b'{"at_ms": 0}'
    assert (await first(feed, lambda _: True))["at_ms"] > 0


async def test_a_failure_ends_the_page_s_stream_and_the_next_begins_anew(
    feed: Feed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The browser asks again by itself; nobody waits for what never comes."""
    async with asyncio.timeout(10), aclosing(feed.snapshots()) as snapshots:
        await anext(snapshots)
        with monkeypatch.context() as broken:
            broken.setattr(feed, "facts", lambda: 1 / 0)
            assert [made async for made in snapshots] == []
    assert "snapshots of press failed" in caplog.text
    assert (await first(feed, lambda _: True))["view"]["pipeline"] == "press"


async def test_latency_is_shown_of_all_and_of_each_class() -> None:
    """Of every ten seconds; a class that comes later has fewer of them, a silent one no number."""
    now_s, supervisor = [0.0], Supervisor(FILE, STAGES)
    readings, worker = Readings("press", supervisor, now=lambda: now_s[0]), supervisor.workers[-1]
    for now_s[0], classes in [(0.0, {}), (10.0, {"a": 2}), (20.0, {"a": 2, "b": 4})]:
        counted = {name: encode_bins(np.full(BINS, n, np.int64)) for name, n in classes.items()}
        seen = Seen(latencies={"device_to_prediction": counted})
        for tell in supervisor.told:
            tell(worker, Status(stage=worker.stage, ready=True, seen=seen))

    found = feeding._by_class(readings.trend("device_to_prediction"))

    assert {name: [row[0] for row in rows] for name, rows in found.items()} == {
        "a": [10.0, 0.0], "all": [0.0], "b": [0.0],
    }  # fmt: skip
    (_, begun_p50, begun_p99), (_, silent_p50, _) = found["a"]
    assert 0 < begun_p50 < begun_p99
    assert silent_p50 != silent_p50  # not a number: nothing came
    assert found["all"][0][1:] == found["b"][0][1:]
    assert b"null" in msgspec.json.encode(found)
