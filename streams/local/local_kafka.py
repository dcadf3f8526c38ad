"""A durable Apache Kafka on this machine: one broker, from its jars."""

from __future__ import annotations

import asyncio
import base64
import shutil
import subprocess
import uuid
from pathlib import Path

from headrace.schemas.errors import LocalServiceError
from headrace.streams.local.folders import (
    OwnedFolder,
    cache_folder,
    temporary_folder,
    writing,
)
from headrace.streams.local.kafka_config import (
    KafkaOptions,
    Listeners,
    java_command,
    write_properties,
)
from headrace.streams.local.kafka_jars import KAFKA, Java, home, jars, known_java
from headrace.streams.local.probes import bus_answers
from headrace.streams.local.service import Service, is_free, on_free_port, spare_ports
from headrace.streams.local.shared import Facts, find_shared, last_port, write_note

START_S = 60.0
STOP_S = 20.0
TEMPLATE = "template"


class LocalKafka:
    """A broker on a loopback port.

    With a folder its data outlives it; a second user of the folder shares the broker that runs
    there (`shared` is then true and `stop` leaves it alone).

    Args:
        folder: Keep the data here. None: a temporary folder that goes away.
        base: Where temporary folders are made; None is the user's cache.
        port: Client port to prefer; 0 is the one of the run before, else any free one.
        options: Heap, security, properties.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        base: Path | None = None,
        port: int = 0,
        options: KafkaOptions | None = None,
    ) -> None:
        self._kept = folder
        self._base = base or cache_folder()
        self._options = options or KafkaOptions()
        self._folder: OwnedFolder | None = None
        self._service: Service | None = None
        self.port = port
        self.shared = False

    @staticmethod
    def installed() -> bool:
        """Whether its jars are in the user's cache folder."""
        return bool(jars())

    @property
    def url(self) -> str:
        """Its address, as a setting."""
        secure = "s" if self._options.protocol.endswith("SSL") else ""
        return f"kafka{secure}://127.0.0.1:{self.port}"

    @property
    def service(self) -> Service:
        """The running process; a shared broker is not ours and has none."""
        if self._service is None:
            raise LocalServiceError("this process did not start the local Kafka")
        return self._service

    async def start(self) -> str:
        """Start it and return its URL once it answers; again after `stop` or a crash, too.

        Raises:
            MissingExtraError: there is no Java. Fatal.
            LocalServiceError: Kafka is not installed, did not start, or its folder is in use by
                a process that does not answer. Fatal.
        """
        if not self.installed():
            raise LocalServiceError(
                f"Apache Kafka {KAFKA} is not on this machine; fetch it with `headrace kafka`"
            )
        java = known_java()
        folder = await self._own()
        if folder is None:
            return self.url
        try:
            cluster = await self._storage(java, folder)
            self.port = await on_free_port(
                self.port or last_port(folder.path),
                lambda port: self._start(java, folder, cluster, port),
            )
            write_note(folder.path, {"port": str(self.port), "cluster": cluster})
        except BaseException:
            await self.stop()
            raise
        return self.url

    async def _own(self) -> OwnedFolder | None:
        """The folder to run in; None when another process's broker in it is shared."""
        if self._folder is not None:
            self._folder.release()
        if self._kept is None:
            self._folder = temporary_folder(self._base, "kafka")
            return self._folder
        self._folder = OwnedFolder(self._kept, temporary=False)
        if self._folder.acquire():
            return self._folder
        self._folder = None
        note = await find_shared(self._kept, "Kafka", _answers)
        self.port, self.shared = int(note["port"]), True
        return None

    async def _storage(self, java: Java, folder: OwnedFolder) -> str:
        """Storage that is formatted, and the cluster's id: as left, or a copy, or made now."""
        data = folder.path / "data"
        if (data / "meta.properties").is_file():
            return _cluster_of(data)
        template = home() / TEMPLATE
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if self._options.scram or not template.is_dir():
            await asyncio.to_thread(self._format, java, folder.path, cluster)
            return cluster
        with writing(folder.path):
            shutil.rmtree(data, ignore_errors=True)
            shutil.copytree(template, data)
            meta = data / "meta.properties"
            meta.write_text(meta.read_text("utf-8").replace(_cluster_of(data), cluster), "utf-8")
        return cluster

    def _format(self, java: Java, path: Path, cluster: str) -> None:
        """Format empty storage by Kafka's own tool, with the SCRAM users."""
        file, data = path / "server.properties", path / "data"
        with writing(path):
            write_properties(file, data, Listeners(1, 1, 2), KafkaOptions())
        users = [
            f"--add-scram=SCRAM-SHA-{bits}=[name={user},password={password}]"
            for user, password in self._options.scram.items()
            for bits in (256, 512)
        ]
        tool = [*java_command(java, heap_mb=64), "kafka.tools.StorageTool", "format"]
        done = subprocess.run(  # noqa: S603 - Kafka's own tool
            [*tool, f"--cluster-id={cluster}", "--config", str(file), *users],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
            raise LocalServiceError(f"formatting Kafka's storage in {str(data)!r}: {said[-1]}")

    async def _start(self, java: Java, folder: OwnedFolder, cluster: str, port: int) -> None:
        internal, controller = spare_ports(2, besides=port)
        if self._options.protocol == "PLAINTEXT":
            internal = port
        options = self._options
        where = Listeners(port, internal, controller, options.protocol, options.relay)
        file = folder.path / "server.properties"
        with writing(folder.path):
            write_properties(file, folder.path / "data", where, options)
        self._service = service = Service("local Kafka", folder.path, keep=(folder.lock,))
        command = java_command(java, heap_mb=options.heap_mb)
        service.spawn([*command, *options.java_options, "kafka.Kafka", str(file)])
        await service.ready(lambda: bus_answers(internal, cluster), within_s=START_S)

    def check(self) -> None:
        """See that it still runs.

        Raises:
            LocalServiceError: it ended. Fatal.
        """
        if not self.shared and not self.service.running:
            raise LocalServiceError(f"{self.service.ended()}; start again")
        if self.shared and is_free(self.port):
            raise LocalServiceError(f"the shared Kafka on port {self.port} ended; start again")

    async def stop(self) -> None:
        """End it, with its data safe where it is kept. Harmless when it is not running."""
        if self._service is not None:
            await self._service.stop(grace_s=STOP_S if self._kept else 0)
        if self._folder is not None:
            self._folder.release()
            self._folder = None


def _cluster_of(data: Path) -> str:
    for line in (data / "meta.properties").read_text("utf-8").splitlines():
        name, _, value = line.partition("=")
        if name == "cluster.id":
            return value
    raise LocalServiceError(f"{str(data)!r} holds no Kafka storage; remove it, or name another")


async def _answers(note: Facts) -> bool:
    return await bus_answers(int(note["port"]), note["cluster"])
