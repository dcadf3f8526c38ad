"""`up` hung: its watch lost the cancellation that came in the turn in which a worker failed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headrace.schemas.errors import FatalError
from headrace.schemas.settings import BusSettings, StoreSettings
from headrace.streams.health.site_health import SiteHealth
from headrace.streams.health.verdict import Limits
from headrace.streams.workers.jobs import STAGES, Endpoints
from headrace.streams.workers.supervisor import Supervisor

NOWHERE = Endpoints(
    bus=BusSettings(url="kafka://127.0.0.1:9"),
    store=StoreSettings(url="redis://127.0.0.1:9"),
    embedded=True,
)


@pytest.mark.parametrize("turns", range(6))
async def test_it_ends_in_whichever_turn_of_the_loop(
    turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker ends for good, and so many turns later everything is stopped."""
    supervisor = Supervisor(Path("p.toml"), STAGES)
    failing = asyncio.Event()

    async def ready() -> None:
        await failing.wait()
        raise FatalError("the model is none")

    monkeypatch.setattr(supervisor, "ready", ready)
    watching = asyncio.create_task(SiteHealth(supervisor, Limits(), "p").watch(NOWHERE))
    for _ in range(10):
        await asyncio.sleep(0)  # until it waits

    failing.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    watching.cancel()
    await asyncio.wait({watching}, timeout=5)

    assert watching.cancelled()
