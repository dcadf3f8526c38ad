"""The drill's own store, behind a proxy, and what may be done to it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from headrace.schemas.errors import LocalServiceError
from headrace.schemas.settings import StoreSettings
from headrace.streams.drill.own_bus import check_port, ended, filled, stopped
from headrace.streams.drill.proxy import HOST, Proxy
from headrace.streams.drill.small_disk import SmallDisk
from headrace.streams.local.embedded_store import EmbeddedStore

ENOUGH_BYTES = 1 << 30
NO_PRIMARY = 1
"""A port on which nobody listens: a replica of it takes no writes and keeps what it has."""

SYNC_S = 20.0
LOOK_S = 0.05


class OwnStore:
    """One server that keeps its data in a file. Once `relay` was called everybody finds its proxy.

    Args:
        folder: For its data, and that of replicas.
        disk: Where the data lies, if that can be filled.
    """

    def __init__(self, folder: Path, disk: SmallDisk | None = None) -> None:
        self.proxy, self.disk = Proxy(0), disk
        self._folder, self._count = folder, 0
        self._valkey = self._new()

    def _new(self) -> EmbeddedStore:
        self._count += 1
        return EmbeddedStore(folder=self._folder / str(self._count), max_memory_bytes=ENOUGH_BYTES)

    async def start(self) -> None:
        """Start the server.

        Raises:
            MissingExtraError, LocalServiceError: not installed, or it did not start. Fatal.
        """
        await self._valkey.start()

    async def relay(self) -> None:
        """Put the proxy before it, in this event loop."""
        self.proxy.upstream = self._valkey.port
        await self.proxy.start()

    @property
    def settings(self) -> StoreSettings:
        """Where it is found."""
        return StoreSettings(url=f"redis://{HOST}:{self.proxy.port or self._valkey.port}/0")

    async def empty(self) -> None:
        """Delete everything in it."""
        await self._tell("FLUSHALL")

    async def restart(self, down_s: float) -> None:
        """SIGKILL, and a new server on its port and file: up to a second is gone."""
        store = self._valkey
        await asyncio.to_thread(store.service.kill)
        await asyncio.sleep(down_s)
        port = store.port
        await store.start()
        check_port("store", port, store.port)

    async def pause(self, down_s: float) -> None:
        """SIGSTOP, and SIGCONT after `down_s` seconds."""
        await stopped(self._valkey.service, down_s)

    async def read_only(self, down_s: float) -> None:
        """Make it a replica without a primary, for a while: it answers, and refuses to write."""
        await self._tell("REPLICAOF", HOST, str(NO_PRIMARY))
        await asyncio.sleep(down_s)
        await self._tell("REPLICAOF", "NO", "ONE")

    async def out_of_memory(self, down_s: float) -> None:
        """Let it be above its memory for a while: nothing is evicted, so it refuses to write."""
        await self._tell("CONFIG", "SET", "maxmemory", "1")
        await asyncio.sleep(down_s)
        await self._tell("CONFIG", "SET", "maxmemory", str(ENOUGH_BYTES))

    async def fill_disk(self, down_s: float) -> None:
        """Let its disk be full for a while: what it cannot append to its file it refuses.

        Once there is room its file is written anew, as an operator has it done: what was cut off in
        the middle of a write may stay in the old one, which the server would not start with.

        Raises:
            LocalServiceError: it has no disk of its own, or its file was not written. Fatal.
        """
        disk = filled(self.disk)
        try:
            await asyncio.sleep(down_s)
        finally:
            disk.free()
        await self._write_file_anew()

    async def _write_file_anew(self) -> None:
        port = self._valkey.port
        try:
            async with asyncio.timeout(SYNC_S):
                await self._tell("BGREWRITEAOF")
                while "aof_rewrite_in_progress:0" not in await _info(port, "persistence"):  # noqa: ASYNC110 - no event tells of it
                    await asyncio.sleep(LOOK_S)
        except TimeoutError as error:
            raise LocalServiceError(
                f"the drill's store did not write its file anew within {SYNC_S:g} s of a full "
                f"disk; run the drill again"
            ) from error

    async def promote_stale(self, behind_s: float) -> None:
        """Lose the server to a replica that was cut off `behind_s` seconds before.

        Raises:
            LocalServiceError: the replica did not catch up at first. Fatal.
        """
        replica = self._new()
        await replica.start()
        try:
            await _tell(replica.port, "REPLICAOF", HOST, str(self._valkey.port))
            async with asyncio.timeout(SYNC_S):
                while "master_link_status:up" not in await _info(replica.port, "replication"):  # noqa: ASYNC110 - no event tells of it
                    await asyncio.sleep(LOOK_S)
        except TimeoutError as error:
            await ended(replica)
            raise LocalServiceError(
                f"a replica of the store did not catch up within {SYNC_S:g} s; run the drill again"
            ) from error
        await _tell(replica.port, "REPLICAOF", "NO", "ONE")
        await asyncio.sleep(behind_s)
        primary, self._valkey = self._valkey, replica
        await ended(primary)
        self.proxy.lead_to(replica.port)

    async def end(self) -> None:
        """At once: nobody needs its data."""
        await self.proxy.stop()
        await ended(self._valkey)

    async def _tell(self, *words: str) -> None:
        await _tell(self._valkey.port, *words)


# Two lines of its protocol to our own server on loopback, rather than a client.
async def _tell(port: int, *words: str) -> None:
    """Have a command done.

    Raises:
        LocalServiceError: the server refused it. Fatal.
    """
    answer = await _ask(port, *words)
    if not answer.startswith(("+OK", "+Background")):
        raise LocalServiceError(f"the drill's store answered {words[0]} with {answer.strip()!r}")


async def _info(port: int, section: str) -> str:
    return await _ask(port, "INFO", section)


async def _ask(port: int, *words: str) -> str:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(f"{' '.join(words)}\r\n".encode())
        line = await reader.readline()
        if line.startswith(b"$"):
            line = await reader.readexactly(int(line[1:]))
        return line.decode("utf-8", "replace")
    finally:
        writer.close()
        await writer.wait_closed()
