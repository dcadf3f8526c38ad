"""The drill's own Kafka, behind a proxy, and what may be done to it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from headrace.schemas.errors import LocalServiceError
from headrace.schemas.settings import BusSettings
from headrace.streams.drill.proxy import HOST, Proxy
from headrace.streams.drill.small_disk import SmallDisk
from headrace.streams.local.embedded_store import EmbeddedStore
from headrace.streams.local.kafka_config import KafkaOptions
from headrace.streams.local.local_kafka import LocalKafka
from headrace.streams.local.service import Service, free_ports

FILLED_S = 10.0
"""A broker whose disk is full notices at its next write, and ends; after this it is ended."""


class OwnBus:
    """One broker. Workers reach it through a proxy, the drill itself does not.

    Args:
        folder: For its data; made if need be.
        disk: Where its data lies, if that can be filled.
    """

    def __init__(self, folder: Path, disk: SmallDisk | None = None) -> None:
        relayed, at = free_ports(2)
        self.proxy, self.disk, self._folder = Proxy(relayed, at), disk, folder
        self._kafka = LocalKafka(folder, options=KafkaOptions(relay=(relayed, at)))

    async def start(self) -> None:
        """Start broker and proxy.

        Raises:
            MissingExtraError, LocalServiceError: not installed, or it did not start. Fatal.
        """
        await self._kafka.start()
        await self.proxy.start()

    @property
    def direct(self) -> BusSettings:
        """Where the drill finds it, whatever the proxy does."""
        return BusSettings(url=self._kafka.url)

    @property
    def relayed(self) -> BusSettings:
        """Where workers find it."""
        return BusSettings(url=f"kafka://{HOST}:{self.proxy.port}")

    async def restart(self, down_s: float) -> None:
        """SIGKILL, and a new broker on its port and data after `down_s` seconds."""
        await asyncio.to_thread(self._kafka.service.kill)
        await asyncio.sleep(down_s)
        port = self._kafka.port
        await self._kafka.start()
        check_port("Kafka", port, self._kafka.port)

    async def pause(self, down_s: float) -> None:
        """SIGSTOP, and SIGCONT after `down_s` seconds."""
        await stopped(self._kafka.service, down_s)

    async def fill_disk(self, down_s: float) -> None:
        """Let its disk be full: it ends at its next write. Started again with room after a while.

        Raises:
            LocalServiceError: it has no disk of its own, or did not come back. Fatal.
        """
        disk = filled(self.disk)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(FILLED_S):
                    while self._kafka.service.running:  # noqa: ASYNC110 - no event tells of it
                        await asyncio.sleep(0.1)
        finally:
            disk.free()
        await self.restart(down_s)

    async def lose(self) -> None:
        """SIGKILL, and a new broker on its port that has nothing."""
        await asyncio.to_thread(self._kafka.service.kill)
        await asyncio.to_thread(shutil.rmtree, self._folder / "data")
        await self.restart(0)

    async def end(self) -> None:
        """At once: nobody needs its data."""
        await self.proxy.stop()
        await ended(self._kafka)


async def stopped(service: Service, down_s: float) -> None:
    """SIGSTOP of a service for `down_s` seconds: its connections stay open and say nothing."""
    os.killpg(service.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(down_s)
    finally:
        os.killpg(service.pid, signal.SIGCONT)


def filled(disk: SmallDisk | None) -> SmallDisk:
    """A disk, filled.

    Raises:
        LocalServiceError: there is none. Fatal.
    """
    if disk is None:
        raise LocalServiceError("the service has no disk of its own; it is not filled")
    disk.fill()
    return disk


def check_port(what: str, before: int, after: int) -> None:
    """See that a service is where it was.

    Raises:
        LocalServiceError: it is not, so nobody finds it. Fatal.
    """
    if before != after:
        raise LocalServiceError(
            f"the drill's {what} was on port {before}, which somebody else took while it was down; "
            f"run the drill again"
        )


async def ended(started: LocalKafka | EmbeddedStore) -> None:
    """End a service at once, if it was started."""
    try:
        service = started.service
    except LocalServiceError:
        return
    await asyncio.to_thread(service.kill)
    await started.stop()
