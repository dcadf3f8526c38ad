"""Bus and store of a drill: its own, which it may strike, or given ones, which it may not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from headrace.schemas.errors import LocalServiceError
from headrace.schemas.settings import BusSettings, Settings, StoreSettings
from headrace.streams.drill.kinds import TRAITS, Kind
from headrace.streams.jobs import Endpoints
from headrace.streams.local.embedded_store import EmbeddedStore
from headrace.streams.local.folders import temporary_folder
from headrace.streams.local.local_kafka import LocalKafka
from headrace.streams.local.services import base_folder

FLUSH = b"FLUSHALL\r\n"
DONE = b"+OK\r\n"


class Services:
    """Where a drill runs.

    Args:
        bus: The bus.
        store: The store.
        kafka: The bus, where it is the drill's own.
        valkey: The store, where it is the drill's own.
    """

    def __init__(
        self,
        bus: BusSettings,
        store: StoreSettings,
        *,
        kafka: LocalKafka | None = None,
        valkey: EmbeddedStore | None = None,
    ) -> None:
        self.endpoints = Endpoints(bus=bus, store=store, embedded=False)
        self._kafka, self._valkey = kafka, valkey

    def left_out(self, kind: Kind) -> str | None:
        """Why a fault is not for these services; None when it is."""
        own = {"bus": self._kafka, "store": self._valkey}
        struck = TRAITS[kind].on
        if struck in own and own[struck] is None:
            return f"{kind} is left out: the {struck} is not the drill's own"
        return None

    async def empty_store(self) -> None:
        """Delete everything in the store.

        Raises:
            LocalServiceError: it is not the drill's own, or refuses. Fatal.
        """
        # Two lines of its protocol to our own server on loopback, rather than a client.
        reader, writer = await asyncio.open_connection("127.0.0.1", self._own_store.port)
        try:
            writer.write(FLUSH)
            if (answer := await reader.readline()) != DONE:
                raise LocalServiceError(f"the embedded store answered FLUSHALL with {answer!r}")
        finally:
            writer.close()
            await writer.wait_closed()

    async def restart_bus(self, down_s: float) -> None:
        """SIGKILL of the broker, and a new one on its port and data after `down_s` seconds."""
        if self._kafka is None:
            raise LocalServiceError("the bus is not the drill's own; it is not restarted")
        await asyncio.to_thread(self._kafka.service.kill)
        await asyncio.sleep(down_s)
        port = self._kafka.port
        await self._kafka.start()
        _same("Kafka", port, self._kafka.port)

    async def restart_store(self, down_s: float) -> None:
        """SIGKILL of the store, and a new one on its port and file: up to a second is gone."""
        store = self._own_store
        await asyncio.to_thread(store.service.kill)
        await asyncio.sleep(down_s)
        port = store.port
        await store.start()
        _same("store", port, store.port)

    @property
    def _own_store(self) -> EmbeddedStore:
        if self._valkey is None:
            raise LocalServiceError("the store is not the drill's own; nothing is done to it")
        return self._valkey


def _same(what: str, before: int, after: int) -> None:
    if before != after:
        raise LocalServiceError(
            f"the drill's {what} was on port {before}, which somebody else took while it was down; "
            f"run the drill again"
        )


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[tuple[Services, Path]]:
    """The services that the settings name, or own ones in a folder that goes away with them.

    Raises:
        MissingExtraError, LocalServiceError: a local one is not installed or did not start. Fatal.
    """
    folder = temporary_folder(base_folder(settings), "drill")
    kafka = LocalKafka(folder.path / "kafka") if settings.bus.url == "local" else None
    valkey = None
    if settings.store.url == "local":
        valkey = EmbeddedStore(folder.path, folder=folder.path / "store")
    bus, store = settings.bus, settings.store
    try:
        if kafka is not None:
            bus = BusSettings(url=await kafka.start())
        if valkey is not None:
            store = StoreSettings(url=await valkey.start())
        yield Services(bus, store, kafka=kafka, valkey=valkey), folder.path
    finally:
        for service in (kafka, valkey):
            if service is not None:
                await _end(service)
        folder.release()


async def _end(service: LocalKafka | EmbeddedStore) -> None:
    """At once: nobody needs its data."""
    try:
        started = service.service
    except LocalServiceError:
        return
    await asyncio.to_thread(started.kill)
    await service.stop()
