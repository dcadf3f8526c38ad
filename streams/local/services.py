"""The bus and the store that the settings ask for: one that is there, or one started here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from headrace.schemas.errors import LocalServiceError
from headrace.schemas.settings import BusSettings, Settings, StoreSettings
from headrace.streams.bus.options import client_options
from headrace.streams.local.embedded_bus import EmbeddedBus
from headrace.streams.local.embedded_store import EmbeddedStore
from headrace.streams.local.folders import cache_folder
from headrace.streams.local.local_kafka import LocalKafka

BusKind = Literal["embedded", "kafka", "remote"]
StoreKind = Literal["embedded", "remote"]

_WATCH_S = 0.5


async def _nothing() -> None:
    """A service that is not ours is left as it is."""


async def _not_known() -> bool:
    """A store that is not ours is not asked here."""
    return False


def _sound() -> None:
    """A service that is not ours is not watched here: its clients notice."""


@dataclass(frozen=True, slots=True)
class RunningBus:
    """A bus that answers.

    Attributes:
        settings: Where it is, as settings that need no further start.
        kind: ``embedded`` (ours, or another command's), ``kafka`` (local and durable) or
            ``remote``.
        options: Keyword arguments of every aiokafka client.
        stop: Ends it where it was started here; harmless when repeated.
        check: Raises LocalServiceError when it ended, or holds too much memory.
    """

    settings: BusSettings
    kind: BusKind
    options: dict[str, Any] = field(repr=False)
    stop: Callable[[], Awaitable[None]] = _nothing
    check: Callable[[], None] = _sound

    @property
    def url(self) -> str:
        """Where it is."""
        return self.settings.url

    async def watch(self) -> None:
        """Return never; see twice a second that the bus runs.

        Raises:
            LocalServiceError: it ended, or the embedded bus is above its memory. Fatal.
        """
        await _watch(self.check)


@dataclass(frozen=True, slots=True)
class RunningStore:
    """A store; attributes as of `RunningBus`, and `empty`: whether it surely holds nothing."""

    settings: StoreSettings
    kind: StoreKind
    stop: Callable[[], Awaitable[None]] = _nothing
    check: Callable[[], None] = _sound
    empty: Callable[[], Awaitable[bool]] = _not_known

    @property
    def url(self) -> str:
        """Where it is."""
        return self.settings.url

    async def watch(self) -> None:
        """Return never; see twice a second that the store runs.

        Raises:
            LocalServiceError: it ended. Fatal.
        """
        await _watch(self.check)


async def _watch(check: Callable[[], None]) -> None:
    while True:
        check()
        await asyncio.sleep(_WATCH_S)


async def open_bus(settings: Settings, *, keep: bool = True) -> RunningBus:
    """The bus that the settings name; a ``local`` one is started.

    ``auto`` takes Apache Kafka where it is installed, else the embedded bus.

    Args:
        settings: The tree.
        keep: Whether a local Kafka keeps its data for the next run and is shared by the runs of
            one user; otherwise it begins empty and goes away. The embedded bus never keeps any.

    Raises:
        SettingsError: settings that no connection can be made of. Fatal.
        MissingExtraError, LocalServiceError: a local bus could not start. Fatal.
    """
    kind = bus_kind(settings)
    if settings.bus.url != "local":
        return RunningBus(settings.bus, kind, client_options(settings.bus))
    base = base_folder(settings)
    bus: EmbeddedBus | LocalKafka
    if kind == "embedded":
        bus = EmbeddedBus(base)
    else:
        bus = LocalKafka(base / "kafka" if keep else None, base=base)
    await bus.start()
    found = msgspec.structs.replace(settings.bus, url=bus.url)
    return RunningBus(found, kind, client_options(found), bus.stop, bus.check)


async def open_store(settings: Settings, *, keep: bool | None = None) -> RunningStore:
    """The store that the settings name; a ``local`` one is started.

    Args:
        settings: The tree.
        keep: Whether a local store keeps its data for the next run, in an append-only file, and
            is shared by the runs of one user. None: where the bus outlives the run, too, as the
            store is a cache of the bus's log.

    Raises:
        MissingExtraError, LocalServiceError: a local store could not start. Fatal.
    """
    if settings.store.url != "local":
        return RunningStore(settings.store, "remote")
    if keep is None:
        keep = bus_kind(settings) != "embedded"
    base = base_folder(settings)
    store = EmbeddedStore(base, folder=base / "store" if keep else None)
    await store.start()
    found = msgspec.structs.replace(settings.store, url=store.url)
    return RunningStore(found, "embedded", store.stop, store.check, store.empty)


def bus_kind(settings: Settings) -> BusKind:
    """Which bus the settings lead to; one with an address may be another command's embedded one."""
    if settings.bus.url != "local":
        return "embedded" if settings.bus.kind == "embedded" else "remote"
    if settings.bus.kind == "auto":
        return "kafka" if LocalKafka.installed() else "embedded"
    return settings.bus.kind


def base_folder(settings: Settings) -> Path:
    """Where local services keep their files: ``worker.data_dir``, else the user's cache folder.

    Raises:
        LocalServiceError: it is a file. Fatal.
    """
    if settings.worker.data_dir is None:
        return cache_folder()
    folder = Path(settings.worker.data_dir).expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise LocalServiceError(
            f"worker.data_dir names {str(folder)!r}, which is a file; name a folder"
        )
    return folder
