"""A TCP relay in front of a service, which can be made a bad network."""

from __future__ import annotations

import asyncio
from contextlib import suppress

HOST = "127.0.0.1"
PIECE_BYTES = 1 << 16


class Proxy:
    """Relays connections of workers to a service on loopback, until told otherwise.

    Runs in the drill's own event loop. What it has taken it delivers in order or not at all.

    Args:
        upstream: Port of the service.
        port: Port to listen on; 0 is any.
    """

    def __init__(self, upstream: int, port: int = 0) -> None:
        self.upstream, self.port = upstream, port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._relays: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._is_cut, self._delay_s = False, 0.0

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: its port is taken.
        """
        self._server = await asyncio.start_server(self._accepted, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """End every connection, and listen no more."""
        if self._server is not None:
            self._server.close()
        self._reset()
        for relay in self._relays:
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection, and each new one as soon as it is made."""
        self._is_cut = True
        self._reset()

    def hang(self) -> None:
        """Half-open: connections stay, new ones are accepted, and no byte passes.

        What was sent meanwhile is delivered after the repair, also what its sender has given up by
        then: as from a network that only stood still.
        """
        self._passing.clear()

    def slow(self, delay_s: float) -> None:
        """Hold every piece for `delay_s` seconds, either way."""
        self._delay_s = delay_s

    def mend(self) -> None:
        """Relay as before."""
        self._is_cut, self._delay_s = False, 0.0
        self._passing.set()

    def lead_to(self, upstream: int) -> None:
        """Reset every connection; new ones lead to another port."""
        self.upstream = upstream
        self._reset()

    def _reset(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._relays.add(task)
            task.add_done_callback(self._relays.discard)
        self._open.add(writer)
        try:
            if not self._is_cut:
                await self._relay(reader, writer)
        except OSError:
            pass  # one side is gone, which the other one is told below
        except asyncio.CancelledError:
            pass  # `stop`; asyncio's own callback would log it
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._passing.wait()
        back_reader, back_writer = await asyncio.open_connection(HOST, self.upstream)
        self._open.add(back_writer)
        ways = (self._pump(reader, back_writer), self._pump(back_reader, writer))
        try:
            async with asyncio.TaskGroup() as group:
                for way in ways:
                    group.create_task(way)
        finally:
            self._open.discard(back_writer)
            back_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction, until its end or a reset."""
        with suppress(OSError):
            while piece := await reader.read(PIECE_BYTES):
                await asyncio.sleep(self._delay_s)
                await self._passing.wait()
                writer.write(piece)
                await writer.drain()
        # Whoever hung up has sent all it will, and gets what the other side still says.
        with suppress(OSError):
            writer.write_eof()
