"""What one stage asks of the bus: names, bounds and timings, checked once."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from headrace.schemas.errors import SettingsError

Partition = tuple[str, int]

# One logger for the whole transport; Faust's and aiokafka's own are left alone.
log = logging.getLogger("headrace.transport")

REQUIRE_COLUMNAR = "HEADRACE_REQUIRE_COLUMNAR_FETCH"

# (session, heartbeat) in seconds. The embedded bus holds a join for half the session, and a
# Kafka broker refuses sessions under 6 s (group.min.session.timeout.ms).
EMBEDDED_TIMES = (2.0, 0.5)
KAFKA_TIMES = (8.0, 2.0)


@dataclass(frozen=True, slots=True)
class StageOptions:
    """Settings of one stage's transport.

    Attributes:
        group: Consumer group.
        topics: Topics read; they exist before the start.
        client_options: aiokafka client keyword arguments (servers, TLS, SASL, timeouts).
        embedded: The bus is the embedded one, with its own timings.
        batch_rows: Most records in one batch.
        max_in_flight: Most batches of one partition that are handed over and not committable.
        fetch_max_wait_ms: How long the broker holds a fetch that finds nothing, milliseconds.
        fetch_bytes: Most bytes of one partition in one fetch.
        commit_interval_s: Seconds between commits of finished work.
        shutdown_s: Seconds that open work gets at a revocation and at the end.
        read_committed: Leave out records of open and aborted transactions.
        transactional: The handler commits offsets, in transactions: the stage commits none.
        note: Stands beside the offsets that the handler asks to commit.
        start: Where a partition without a committed offset begins.
        concurrency: Agent bodies that run at the same time.
    """

    group: str
    topics: tuple[str, ...]
    client_options: Mapping[str, Any]
    embedded: bool
    batch_rows: int
    max_in_flight: int
    fetch_max_wait_ms: int
    fetch_bytes: int
    commit_interval_s: float
    shutdown_s: float
    read_committed: bool
    start: Literal["earliest", "latest"]
    concurrency: int
    transactional: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("batch_rows", "max_in_flight", "fetch_bytes", "concurrency"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}, expected at least 1")
        for name in ("commit_interval_s", "shutdown_s"):
            if getattr(self, name) <= 0:
                raise SettingsError(f"{name} is {getattr(self, name)} s, expected more than 0 s")
        if not self.topics:
            raise SettingsError(f"group {self.group!r} names no topic; name at least one")
        if "bootstrap_servers" not in self.client_options:
            raise SettingsError("the bus options name no bootstrap_servers; give the bus address")

    @property
    def session_s(self) -> float:
        """Seconds without a heartbeat after which the group gives the partitions away."""
        return EMBEDDED_TIMES[0] if self.embedded else KAFKA_TIMES[0]

    @property
    def heartbeat_s(self) -> float:
        """Seconds between heartbeats."""
        return EMBEDDED_TIMES[1] if self.embedded else KAFKA_TIMES[1]

    @property
    def ask_s(self) -> float:
        """Seconds after which a request to the bus counts as unanswered."""
        return min(10.0, float(self.client_options.get("request_timeout_ms", 10_000)) / 1000)

    def consumer_arguments(self) -> dict[str, Any]:
        """Keyword arguments of the one `AIOKafkaConsumer` of this stage."""
        return {
            "client_id": self.group,
            **self.client_options,
            "group_id": self.group,
            "enable_auto_commit": False,
            # A position outside the log is our decision, never a silent jump.
            "auto_offset_reset": "none",
            "isolation_level": "read_committed" if self.read_committed else "read_uncommitted",
            "fetch_max_wait_ms": self.fetch_max_wait_ms,
            "max_partition_fetch_bytes": self.fetch_bytes,
            "check_crcs": True,
            "session_timeout_ms": int(self.session_s * 1000),
            "heartbeat_interval_ms": int(self.heartbeat_s * 1000),
            # Others wait this long for us to finish open work before we lose our place.
            "rebalance_timeout_ms": int((self.shutdown_s + 5) * 1000),
            # Liveness is the heartbeat of the event loop; stuck work is the watchdog's to find.
            "max_poll_interval_ms": 24 * 3600 * 1000,
        }


def columnar_required() -> bool:
    """Whether the absence of the columnar fetch lane is an error."""
    return os.environ.get(REQUIRE_COLUMNAR, "") not in ("", "0")
