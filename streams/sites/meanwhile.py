"""Bus, store and workers begin to start before a command imports what asks them."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headrace.schemas.settings import Settings
from headrace.streams.sites.backing import Backing
from headrace.streams.workers.spawning import Spawner

HEAD_START_TURNS = 20
"""Turns of the loop for the tasks there are: to start bus and store takes them five."""


@asynccontextmanager
async def begun(settings: Settings, *modules: str) -> AsyncIterator[tuple[Backing, Spawner]]:
    """Bus, store and nursery being started, and modules imported meanwhile; ended with the block.

    A broker and a worker's imports take longer than ours, and all share few cores: they come
    first. What cannot be started is told by whoever opens the backing.

    Args:
        settings: Where bus and store are.
        modules: Full names of what the block imports.
    """
    backing, spawner = Backing(settings), Spawner()
    spawner.start()
    opening = asyncio.create_task(backing.open())
    try:
        await import_meanwhile(*modules)
        yield backing, spawner
    finally:
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        spawner.stop()
        await backing.stop()


async def import_meanwhile(*modules: str) -> None:
    """Import modules one by one, once the tasks there are have started their processes.

    On the loop's own thread, which has nothing else to do then; another thread would fight it for
    the interpreter's lock.

    Args:
        modules: Full names, each imported in one turn of the loop.
    """
    for _ in range(HEAD_START_TURNS):
        await asyncio.sleep(0)
    for module in modules:
        importlib.import_module(module)
        await asyncio.sleep(0)
