"""The bus and the store behind the pipelines of one command: opened once, shared, stopped last."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from headrace.schemas.settings import Settings
from headrace.streams.local.services import RunningBus, RunningStore, open_bus, open_store


class Backing:
    """What the settings name, opened when first asked for.

    Args:
        settings: Where bus and store are; ``local`` ones are started here and end with us.

    Attributes:
        bus: The bus; None until it is there.
        store: The store; None until it is there.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opening: asyncio.Task[None] | None = None
        self.bus: RunningBus | None = None
        self.store: RunningStore | None = None

    async def open(self) -> tuple[RunningBus, RunningStore]:
        """Both, running; whoever asks while they start waits for the same ones.

        Raises:
            SettingsError, MissingExtraError, LocalServiceError: fatal.
        """
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        # Shielded: one pipeline that gives up must not take the start from the others.
        await asyncio.shield(self._opening)
        if self.bus is None or self.store is None:
            raise AssertionError("unreachable")
        return self.bus, self.store

    async def watch(self) -> None:
        """Return never; see twice a second that those run that were started here.

        Raises:
            LocalServiceError: one ended or holds too much memory. Fatal.
        """
        running = [service for service in (self.bus, self.store) if service is not None]
        await _first(*(service.watch() for service in running))

    async def stop(self) -> None:
        """Stop what was started here; safe at any time, also half-started."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        for service in (self.bus, self.store):
            if service is not None:
                await service.stop()

    async def _open(self) -> None:
        async def bus() -> None:
            self.bus = await open_bus(self._settings)

        async def store() -> None:
            self.store = await open_store(self._settings)

        await asyncio.gather(bus(), store())


async def _first(*watches: Coroutine[Any, Any, None]) -> None:
    """Wait for the first that ends; cancel the others."""
    tasks = [asyncio.create_task(watch) for watch in watches]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        done.pop().result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
