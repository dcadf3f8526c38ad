"""A worker that is told to end while the bus is away has ended before it would be killed."""

from __future__ import annotations

import asyncio
import time

import pytest

from headrace.feature_store import snapshotting
from headrace.schemas.settings import BusSettings, StoreSettings, WorkerSettings
from headrace.streams import pipeline
from headrace.streams.transport import bus_client, publish, share, stage, transactional_producer
from headrace.streams.workers.jobs import Endpoints
from headrace.streams.workers.supervisor import KILL_AFTER_S, Supervisor

USUAL_S = WorkerSettings().shutdown_s


def test_the_deadlines_fit_into_each_other() -> None:
    """What goes on one after another ends within the wait around it, and all of it in time."""
    letting_go_s = 2 * share._CUT_OFF_S + share._LAST_COMMIT_S + bus_client._LEAVE_S
    assert letting_go_s <= stage._LEAVE_S
    assert max(2 * publish.CLOSE_S, snapshotting._CLOSE_S) < pipeline.CLOSE_S
    assert transactional_producer.ABORT_S <= pipeline.CLOSE_S
    assert USUAL_S + stage._LEAVE_S + pipeline.CLOSE_S < KILL_AFTER_S


async def test_connections_close_side_by_side_and_within_their_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some hang, as their service is away; the others are closed."""
    monkeypatch.setattr(pipeline, "CLOSE_S", 0.05)
    closed: list[str] = []
    left: list[str] = []

    async def closes(name: str) -> None:
        await asyncio.sleep(0.001)
        closed.append(name)

    async def hangs(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            left.append(name)

    began_s = time.monotonic()
    await pipeline._closed(hangs("bus"), closes("store"), hangs("transactions"))
    assert (closed, sorted(left)) == (["store"], ["bus", "transactions"])
    assert time.monotonic() - began_s >= 0.05


async def test_an_error_of_one_is_told_when_all_are_closed() -> None:
    """None stays open for it."""
    closed = asyncio.Event()

    async def fails() -> None:
        raise OSError("gone")

    async def closes() -> None:
        await asyncio.sleep(0.001)
        closed.set()

    with pytest.raises(OSError, match="gone"):
        await pipeline._closed(fails(), closes())
    assert closed.is_set()


@pytest.mark.parametrize(("shutdown_s", "more_s"), [(USUAL_S, 0.0), (2.0, 0.0), (45.0, 35.0)])
async def test_who_gets_longer_for_open_batches_is_killed_later(
    tmp_path, shutdown_s: float, more_s: float
) -> None:
    """`worker.shutdown_s` reaches the workers, and whoever waits for them waits as much longer."""
    supervisor = Supervisor(tmp_path / "none.toml", ["enrich"])
    supervisor.connect(
        Endpoints(bus=BusSettings(), store=StoreSettings(), embedded=True, shutdown_s=shutdown_s)
    )
    assert supervisor._kill_after_s == KILL_AFTER_S + more_s
