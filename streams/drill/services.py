"""Bus and store of a drill: its own, which it may strike, or given ones, which it may not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from headrace.schemas.errors import LocalServiceError
from headrace.schemas.settings import BusSettings, Settings, StoreSettings
from headrace.streams.drill.kinds import TRAITS, Kind
from headrace.streams.drill.own_bus import OwnBus
from headrace.streams.drill.own_store import OwnStore
from headrace.streams.drill.proxy import Proxy
from headrace.streams.drill.small_disk import SmallDisk, own_mounts
from headrace.streams.local.folders import temporary_folder
from headrace.streams.local.services import base_folder
from headrace.streams.workers.jobs import Endpoints

SLOW_S = 0.1
"""How long a slow network holds each piece, either way."""

DISK_MB = {"bus": 1024, "store": 192}


class Services:
    """Where a drill runs.

    Args:
        bus: The bus, as the drill itself reaches it.
        store: The store.
        own_bus: The bus, where it is the drill's own.
        own_store: The store, where it is the drill's own.
        no_disk: Why disks cannot be filled; None where they can.
    """

    def __init__(
        self,
        bus: BusSettings,
        store: StoreSettings,
        *,
        own_bus: OwnBus | None = None,
        own_store: OwnStore | None = None,
        no_disk: str | None = "no disk was asked for",
    ) -> None:
        self.endpoints = Endpoints(bus=bus, store=store, embedded=False)
        self._bus, self._store, self._no_disk = own_bus, own_store, no_disk

    @property
    def for_workers(self) -> Endpoints:
        """Where workers find them: behind proxies, where they are the drill's own."""
        if self._bus is None:
            return self.endpoints
        return Endpoints(
            bus=self._bus.relayed, store=self.endpoints.store, embedded=self.endpoints.embedded
        )

    def left_out(self, kind: Kind) -> str | None:
        """Why a fault is not for these services; None when it is."""
        trait = TRAITS[kind]
        if kind == "bus-lost" and self._bus is None:
            return "bus-lost is left out: the bus is not the drill's own"
        own = {"bus": self._bus, "store": self._store}
        if trait.on in own and own[trait.on] is None:
            return f"{kind} is left out: the {trait.on} is not the drill's own"
        if trait.needs_disk and self._no_disk is not None:
            return f"{kind} is left out: {self._no_disk}"
        return None

    async def strike(self, kind: Kind, down_s: float) -> None:
        """Strike bus or store, and repair it after `down_s` seconds.

        Raises:
            LocalServiceError: it is not the drill's own, or did not come back. Fatal.
        """
        await self._blows()[kind](down_s)

    async def empty_store(self) -> None:
        """Delete everything in the store.

        Raises:
            LocalServiceError: it is not the drill's own, or refuses. Fatal.
        """
        await self._own_store.empty()

    async def lose_bus(self) -> None:
        """Restart the bus without its data.

        Raises:
            LocalServiceError: it is not the drill's own, or did not come back. Fatal.
        """
        if self._bus is None:
            raise LocalServiceError("the bus is not the drill's own; nothing is done to it")
        await self._bus.lose()

    def _blows(self) -> Mapping[str, Callable[[float], Awaitable[None]]]:
        on_bus: dict[str, Callable[[float], Awaitable[None]]] = {}
        on_store: dict[str, Callable[[float], Awaitable[None]]] = {}
        if (bus := self._bus) is not None:
            on_bus = {
                **_network("bus", bus.proxy),
                "bus-restart": bus.restart,
                "bus-pause": bus.pause,
                "bus-disk-full": bus.fill_disk,
            }
        if (store := self._store) is not None:
            on_store = {
                **_network("store", store.proxy),
                "store-restart": store.restart,
                "store-pause": store.pause,
                "store-read-only": store.read_only,
                "store-out-of-memory": store.out_of_memory,
                "store-disk-full": store.fill_disk,
                "store-stale": store.promote_stale,
            }
        return on_bus | on_store

    @property
    def _own_store(self) -> OwnStore:
        if self._store is None:
            raise LocalServiceError("the store is not the drill's own; nothing is done to it")
        return self._store


def _network(what: str, proxy: Proxy) -> dict[str, Callable[[float], Awaitable[None]]]:
    """What a bad network does to the connections of workers."""

    def blow(strike: Callable[[], None]) -> Callable[[float], Awaitable[None]]:
        async def lasting(down_s: float) -> None:
            strike()
            try:
                await asyncio.sleep(down_s)
            finally:
                proxy.mend()

        return lasting

    return {
        f"{what}-cut": blow(proxy.cut),
        f"{what}-half-open": blow(proxy.hang),
        f"{what}-slow": blow(lambda: proxy.slow(SLOW_S)),
    }


@asynccontextmanager
async def opened(
    settings: Settings, kinds: Collection[Kind] = ()
) -> AsyncIterator[tuple[Services, Path]]:
    """The services that the settings name, or own ones in a folder that goes away with them.

    Args:
        settings: The tree.
        kinds: What will be done to them: where a disk is to be filled, the data lies on small ones.

    Raises:
        MissingExtraError, LocalServiceError: a local one is not installed or did not start. Fatal.
    """
    folder = temporary_folder(base_folder(settings), "drill")
    own_bus, own_store, disks = None, None, _Disks(folder.path)
    try:
        disks.mount({TRAITS[kind].on for kind in kinds if TRAITS[kind].needs_disk})
        bus, store = settings.bus, settings.store
        if bus.url == "local":
            own_bus = OwnBus(folder.path / "bus", disks.by_service.get("bus"))
            await own_bus.start()
            bus = own_bus.direct
        if store.url == "local":
            own_store = OwnStore(folder.path / "store", disks.by_service.get("store"))
            await own_store.start()
            await own_store.relay()
            store = own_store.settings
        yield (
            Services(bus, store, own_bus=own_bus, own_store=own_store, no_disk=disks.refused),
            folder.path,
        )
    finally:
        for service in (own_bus, own_store):
            if service is not None:
                await service.end()
        disks.unmount()
        folder.release()


class _Disks:
    """Small disks for the services' data, where the system permits them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.by_service: dict[str, SmallDisk] = {}
        self.refused: str | None = None

    def mount(self, services: Collection[str]) -> None:
        """Mount one for each of these, or note why not."""
        try:
            if services:
                own_mounts()
            for service in services:
                disk = SmallDisk(self._folder / service, DISK_MB[service])
                disk.mount()
                self.by_service[service] = disk
        except OSError as error:
            self.refused = f"a mount namespace of its own was refused ({error.strerror})"

    def unmount(self) -> None:
        for disk in self.by_service.values():
            disk.unmount()
