"""How a single local Kafka is configured: properties, Java options, storage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headrace.streams.local.kafka_jars import Java, home, jars

NODE = 1
PROPERTIES: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": str(NODE),
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "INTERNAL",
    # what Headrace's topics want by default (design: data path)
    "auto.create.topics.enable": "false",
    "log.message.timestamp.type": "LogAppendTime",
    "message.max.bytes": str(9 << 20),  # above max.message.bytes of our topics
    "replica.fetch.max.bytes": str(9 << 20),
    # one broker
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # few files and few threads: start time and memory
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "1",
    "offsets.topic.segment.bytes": str(8 << 20),
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "num.recovery.threads.per.data.dir": "1",
    "log.cleaner.threads": "1",
    "log.cleaner.dedupe.buffer.size": str(8 << 20),
    # after a crash a broker is taken back only when its old session has ended (9 s by default)
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # start: nobody reads its metrics as Java beans, and a lone controller waits for no second entry
    "metric.reporters": "",
    "metrics.jmx.exclude": ".*",
    "controller.quorum.append.linger.ms": "0",
    # a laptop's groups settle at once
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
}


@dataclass(frozen=True, slots=True)
class Listeners:
    """Where a local Kafka listens, all on loopback.

    Attributes:
        port: For clients.
        internal: For the broker itself and our probe; the same as `port` when clients are plain.
        controller: For the controller.
        protocol: Of the client port: ``PLAINTEXT``, ``SSL``, ``SASL_PLAINTEXT``, ``SASL_SSL``.
        relay: A further plain port, and the port of a relay before it: clients that come through
            the relay are told the relay's.
    """

    port: int
    internal: int
    controller: int
    protocol: str = "PLAINTEXT"
    relay: tuple[int, int] | None = None

    def properties(self) -> dict[str, str]:
        """Their part of the broker's properties."""
        listeners = {"INTERNAL": self.internal}
        protocols = {"INTERNAL": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
        if self.port != self.internal:
            listeners["CLIENT"] = self.port
            protocols["CLIENT"] = self.protocol
        told = dict(listeners)
        if self.relay is not None:
            listeners["RELAYED"], told["RELAYED"] = self.relay
            protocols["RELAYED"] = "PLAINTEXT"
        return {
            "listeners": f"{_places(listeners)},CONTROLLER://127.0.0.1:{self.controller}",
            "advertised.listeners": _places(told),
            "listener.security.protocol.map": ",".join(f"{n}:{p}" for n, p in protocols.items()),
            "controller.quorum.voters": f"{NODE}@127.0.0.1:{self.controller}",
        }


def _places(ports: Mapping[str, int]) -> str:
    return ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """What a user of a local Kafka may choose.

    Attributes:
        heap_mb: Most heap of its Java, MiB.
        protocol: Security protocol of the client listener.
        properties: Broker properties to add or replace.
        scram: SCRAM-SHA-256 and SCRAM-SHA-512 users and their passwords, written when the
            storage is formatted.
        java_options: Further options of its Java.
        relay: A further plain port, and the port of a relay that leads to it.
    """

    heap_mb: int = 256
    protocol: str = "PLAINTEXT"
    properties: Mapping[str, str] = field(default_factory=dict)
    scram: Mapping[str, str] = field(default_factory=dict)
    java_options: tuple[str, ...] = ()
    relay: tuple[int, int] | None = None


def write_properties(file: Path, data: Path, where: Listeners, options: KafkaOptions) -> None:
    """Write the broker's configuration, readable by us only (it may hold credentials)."""
    every = {**PROPERTIES, **where.properties(), "log.dirs": str(data), **options.properties}
    file.touch(mode=0o600)
    file.write_text("".join(f"{name}={value}\n" for name, value in every.items()), "utf-8")


def class_data(java: Java) -> Path:
    """Archive of loaded classes for one Java: it halves the time to start."""
    return home() / f"classes-{java.version}.jsa"


def java_command(java: Java, *, heap_mb: int, archive: bool = True) -> list[str]:
    """Java with its options, up to but without the main class.

    The serial collector and the first compiler only: the broker shares a machine with its
    clients, start and memory count, and it moves bytes, which needs little compiled code.

    Args:
        java: What runs it.
        heap_mb: Most heap, MiB.
        archive: Use the archive of classes where there is one.
    """
    shared = class_data(java)
    return [
        str(java.program),
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Djava.awt.headless=true",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
        *([f"-XX:SharedArchiveFile={shared}"] if archive and _holds(shared) else []),
        *("-cp", ":".join(map(str, jars()))),
    ]


def _holds(archive: Path) -> bool:
    """There is an archive; an empty one stands for a Java that cannot write any."""
    return archive.is_file() and archive.stat().st_size > 0
