"""The embedded bus: Tansu, a Kafka-protocol broker from a PyPI wheel, in memory."""

from __future__ import annotations

import uuid
from pathlib import Path

from headrace.schemas.errors import LocalServiceError
from headrace.streams.local.folders import OwnedFolder, cache_folder, temporary_folder
from headrace.streams.local.probes import bus_answers
from headrace.streams.local.programs import bus_program
from headrace.streams.local.service import Service, on_free_port

MEMORY_LIMIT_BYTES = 1 << 30
"""Where the embedded bus ends a run: it keeps every record and frees nothing (228 MB sent are
250 MB resident)."""

START_S = 10.0
NEEDS_KAFKA = "start Apache Kafka with `headrace kafka`, or name a bus in HEADRACE_BUS"


class EmbeddedBus:
    """A broker on a free loopback port; one node, no transactions, nothing on disk.

    Two members do not settle in one group on it, and it ignores topic configurations.

    Args:
        base: Folder for its log file, in a sub-folder that goes away; None is the user's cache.
        memory_limit_bytes: `check` refuses to go on above it.
    """

    def __init__(
        self, base: Path | None = None, *, memory_limit_bytes: int = MEMORY_LIMIT_BYTES
    ) -> None:
        self._base = base or cache_folder()
        self._limit_bytes = memory_limit_bytes
        self._folder: OwnedFolder | None = None
        self._service: Service | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Its address, as a setting."""
        return f"kafka://127.0.0.1:{self.port}"

    @property
    def service(self) -> Service:
        """The running process."""
        if self._service is None:
            raise LocalServiceError("the embedded bus was not started")
        return self._service

    async def start(self) -> str:
        """Start it and return its URL once it answers; on the same port when started again.

        Raises:
            MissingExtraError: the package with the broker is absent. Fatal.
            LocalServiceError: it did not start. Fatal.
        """
        program = bus_program()
        if self._folder is not None:
            self._folder.release()
        self._folder = folder = temporary_folder(self._base, "bus")
        try:
            self.port = await on_free_port(
                self.port, lambda port: self._start(program, folder, port)
            )
        except BaseException:
            await self.stop()
            raise
        return self.url

    async def _start(self, program: Path, folder: OwnedFolder, port: int) -> None:
        cluster = uuid.uuid4().hex
        self._service = service = Service("embedded bus", folder.path, keep=(folder.lock,))
        listen = f"tcp://127.0.0.1:{port}"
        service.spawn(
            [
                str(program),
                "broker",
                *("--cluster-id", cluster),
                *("--storage-engine", "memory://headrace/"),
                *("--listener-url", listen),
                *("--advertised-listener-url", listen),
                "--silent",
            ],
            {"RUST_LOG": "error", "RUST_BACKTRACE": "0"},
        )
        await service.ready(lambda: bus_answers(port, cluster), within_s=START_S)

    def check(self) -> None:
        """See that it still runs, within its memory.

        Raises:
            LocalServiceError: it ended, or holds more than its limit. Fatal.
        """
        if not self.service.running:
            raise LocalServiceError(f"{self.service.ended()}; its records are gone: start again")
        held = self.service.resident_bytes()
        if held > self._limit_bytes:
            raise LocalServiceError(
                f"the embedded bus holds {held >> 20} MiB, its limit is "
                f"{self._limit_bytes >> 20} MiB and it never frees; {NEEDS_KAFKA}"
            )

    async def stop(self) -> None:
        """End it and remove its folder. Harmless when it is not running."""
        if self._service is not None:
            await self._service.stop(grace_s=0)  # memory only: nothing to save
        if self._folder is not None:
            self._folder.release()
