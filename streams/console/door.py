"""The console's address: known at once, while all behind it waits for the first visitor.

A web server's import takes a third of a second of one core, which the first predictions need: it is
done when the start is over, or with the first visitor who comes before.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING

from headrace.schemas.errors import SettingsError
from headrace.schemas.settings import ConsoleSettings
from headrace.streams.console.access import Access
from headrace.streams.console.shown import Shown

if TYPE_CHECKING:
    from aiohttp.web import AppRunner

log = logging.getLogger("headrace.console")

WAITING = 128
"""Connections that the system keeps until they are taken."""

LOAD_AFTER_S = 3.0
"""Seconds after it listens: a start takes less, and who visits later waits for no import."""


class Console:
    """Listens, and begins to serve with the first connection.

    Args:
        settings: Where, and who may look.
        shown: Pipelines by name; asked when the first visitor comes.

    Raises:
        SettingsError: other machines reach it and there is no token. Fatal.
    """

    def __init__(self, settings: ConsoleSettings, shown: Callable[[], Mapping[str, Shown]]) -> None:
        self._place, self._shown = settings.place(), shown
        self._access = Access(self._place[0], settings.token()) if self._place else None
        self._socket: socket.socket | None = None
        self._loading: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None
        self._runner: AppRunner | None = None

    def listen(self) -> str | None:
        """Listen, and return the URL; None where the settings say off.

        Raises:
            SettingsError: nobody can listen there. Fatal.
        """
        if self._place is None:
            return None
        host, port = self._place
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=WAITING)
        except OSError as error:
            raise SettingsError(
                f"listening on {host}:{port} for the console failed: {error.strerror}; "
                f"set HEADRACE_CONSOLE to a free address of this machine, or to off"
            ) from error
        self._socket.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket, self._visited)
        self._loading = loop.call_later(LOAD_AFTER_S, loop.run_in_executor, None, _load)
        name = f"[{host}]" if ":" in host else host
        return f"http://{name}:{self._socket.getsockname()[1]}/"

    async def stop(self) -> None:
        """Stop serving; harmless when it does not."""
        if self._loading is not None:
            self._loading.cancel()
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        if self._socket is not None:
            if self._opening is None:
                asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()

    def _visited(self) -> None:
        """The first connection waits in the system's queue; the server takes it from there."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._opening = asyncio.create_task(self._open(self._socket))
            self._opening.add_done_callback(self._opened)

    async def _open(self, listening: socket.socket) -> None:
        web, pages = await asyncio.to_thread(_load)
        if self._access is None:
            raise AssertionError("unreachable")
        application = pages.Pages(self._shown(), self._access).application()
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=pages.STOP_S)
        await self._runner.setup()
        await web.SockSite(self._runner, listening).start()

    def _opened(self, opening: asyncio.Task[None]) -> None:
        if opening.cancelled() or (error := opening.exception()) is None:
            return
        log.error("the console did not open: %s: %s", type(error).__name__, error)
        if self._socket is not None:
            self._socket.close()  # who waits is refused rather than held up
            self._socket = None


def _load() -> tuple[ModuleType, ModuleType]:
    from aiohttp import web

    from headrace.streams.console import pages

    return web, pages
