"""The embedded store: Valkey, a Redis-compatible server from a PyPI wheel."""

from __future__ import annotations

import secrets
from pathlib import Path

from headrace.schemas.errors import LocalServiceError
from headrace.streams.local.folders import (
    OwnedFolder,
    cache_folder,
    temporary_folder,
    writing,
)
from headrace.streams.local.probes import store_answers, store_is_empty
from headrace.streams.local.programs import store_program
from headrace.streams.local.service import Service, is_free, on_free_port
from headrace.streams.local.shared import Facts, find_shared, last_port, read_note, write_note

START_S = 10.0
STOP_S = 10.0
_PROBE = "headrace-probe"


class EmbeddedStore:
    """A server on a free loopback port; the wheel's server is built without TLS.

    Args:
        base: Folder of a temporary store, in a sub-folder that goes away; None is the user's cache.
        folder: Keep the data here in an append-only file, across restarts; a second user of the
            folder shares the server that runs there (`shared` is then true and `stop` leaves it
            alone). None keeps nothing.
        max_memory_bytes: Writes are refused above it (nothing is evicted).
        acl: Users as Valkey's ACL rules, such as ``"press on >secret ~* +@all"``; the default user
            is then off.
    """

    def __init__(
        self,
        base: Path | None = None,
        *,
        folder: Path | None = None,
        max_memory_bytes: int = 1 << 30,
        acl: tuple[str, ...] = (),
    ) -> None:
        self._base = base or cache_folder()
        self._kept = folder
        self._max_memory_bytes = max_memory_bytes
        self._acl = acl
        self._folder: OwnedFolder | None = None
        self._service: Service | None = None
        self.port = 0
        self.shared = False

    @property
    def url(self) -> str:
        """Its address, as a setting."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def service(self) -> Service:
        """The running process."""
        if self._service is None:
            raise LocalServiceError("the embedded store was not started")
        return self._service

    async def start(self) -> str:
        """Start it and return its URL once it answers; again after `stop` or a crash, too.

        A kept folder is loaded. Started again it takes the same port where that is free.

        Raises:
            MissingExtraError: the package with the server is absent. Fatal.
            LocalServiceError: it did not start, or its folder is in use by a process that does not
                answer. Fatal.
        """
        program = store_program()
        folder = await self._own()
        if folder is None:
            return self.url
        try:
            self.port = await on_free_port(
                self.port or last_port(folder.path),
                lambda port: self._start(program, folder, port),
            )
        except BaseException:
            await self.stop()
            raise
        return self.url

    async def _own(self) -> OwnedFolder | None:
        """The folder to run in; None when another process's server in it is shared."""
        if self._folder is not None:
            self._folder.release()
        if self._kept is None:
            self._folder = temporary_folder(self._base, "store")
            return self._folder
        self._folder = OwnedFolder(self._kept, temporary=False)
        if self._folder.acquire():
            return self._folder
        self._folder = None
        note = await find_shared(self._kept, "store", self._answers)
        self.port, self.shared = int(note["port"]), True
        return None

    async def _answers(self, note: Facts) -> bool:
        return await store_answers(int(note["port"]), _PROBE, note["password"], note["folder"])

    async def _start(self, program: Path, folder: OwnedFolder, port: int) -> None:
        password, path = secrets.token_hex(16), folder.path.resolve()
        config = path / "valkey.conf"
        with writing(path):
            config.touch(mode=0o600)
            config.write_text("\n".join(self._config(path, port, password)) + "\n", "utf-8")
        self._service = service = Service("embedded store", path, keep=(folder.lock,))
        service.spawn([str(program), str(config)])
        note = {"port": str(port), "password": password, "folder": str(path)}
        await service.ready(lambda: self._answers(note), within_s=START_S)
        write_note(path, note)

    def _config(self, path: Path, port: int, password: str) -> list[str]:
        """Lines of the server's configuration: loopback only, our users, our folder."""
        lines = [
            "bind 127.0.0.1",
            f'dir "{path}"',
            "daemonize no",
            "databases 16",
            'save ""',
            f"maxmemory {self._max_memory_bytes}",
            "maxmemory-policy noeviction",
            f"appendonly {'yes' if self._kept else 'no'}",
            "appendfsync everysec",
            f"port {port}",
            f"user {_PROBE} on >{password} -@all +config|get +dbsize",
            *(f"user {rule}" for rule in self._acl),
        ]
        if self._acl:
            lines.append("user default off")
        return lines

    async def empty(self) -> bool:
        """Whether it holds nothing, known without the store's client; false where it is not."""
        folder = self._kept if self._folder is None else self._folder.path
        if folder is None:
            return False
        note = read_note(folder)
        try:
            return await store_is_empty(int(note["port"]), _PROBE, note["password"])
        except (OSError, EOFError, KeyError, ValueError):
            return False

    def check(self) -> None:
        """See that it still runs.

        Raises:
            LocalServiceError: it ended. Fatal.
        """
        if not self.shared and not self.service.running:
            raise LocalServiceError(f"{self.service.ended()}; start again")
        if self.shared and is_free(self.port):
            raise LocalServiceError(f"the shared store on port {self.port} ended; start again")

    async def stop(self) -> None:
        """End it and remove what is temporary. Harmless when it is not running."""
        if self._service is not None:
            await self._service.stop(grace_s=STOP_S if self._kept else 0)
        if self._folder is not None:
            self._folder.release()
