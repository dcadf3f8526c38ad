"""A stage that is stopped, or refused, before everything was connected leaves nothing open."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from headrace.feature_store.memory import MemoryStore
from headrace.feature_store.store import Store
from headrace.schemas.errors import BusRefusedError
from headrace.streams.pipeline import _connected


class Counted(MemoryStore):
    """Counts how often it was closed."""

    closed = 0

    async def close(self) -> None:
        self.closed += 1


async def there(store: Counted) -> Store:
    await asyncio.sleep(0)
    return cast("Store", store)


async def away() -> None:
    await asyncio.Event().wait()


async def refused() -> None:
    await asyncio.sleep(0.001)
    raise BusRefusedError("no right to")


async def test_a_store_that_came_before_the_bus_is_closed_at_a_stop() -> None:
    """The bus is away; we are told to end."""
    store, stop = Counted(), asyncio.Event()
    connecting = asyncio.create_task(_connected(stop, there(store), away()))
    await asyncio.sleep(0.01)
    stop.set()

    assert await connecting is None
    assert store.closed == 1


async def test_a_store_that_came_before_the_bus_refused_is_closed() -> None:
    """The error is told, and who still waits is given up."""
    store, waiting = Counted(), asyncio.Event()

    async def begins() -> None:
        try:
            await away()
        finally:
            waiting.set()

    with pytest.raises(BusRefusedError):
        await _connected(asyncio.Event(), there(store), refused(), begins())
    assert store.closed == 1
    assert waiting.is_set()


async def test_a_store_that_comes_too_late_is_none() -> None:
    """Stopped while it is being opened: nothing to close."""
    stop = asyncio.Event()
    stop.set()
    assert await _connected(stop, cast("asyncio.Future[Store]", asyncio.Future()), away()) is None


async def test_what_is_connected_stays_open() -> None:
    """All are there: the store is handed over."""
    store = Counted()
    assert await _connected(asyncio.Event(), there(store), asyncio.sleep(0)) is store
    assert store.closed == 0
