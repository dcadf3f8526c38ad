"""The real bus: aiokafka's consumer and producer behind the protocols of `bus`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Literal

import numpy as np
from aiokafka import (  # type: ignore[import-untyped]
    AIOKafkaConsumer,
    AIOKafkaProducer,
    ConsumerRebalanceListener,
    TopicPartition,
)

from headrace.schemas.batch import Headers, RecordBatch
from headrace.schemas.errors import BusRefusedError, HeadraceError, SettingsError, TopicError
from headrace.schemas.topics import EVENT_LIMIT_BYTES
from headrace.streams.bus.admin import partition_counts
from headrace.streams.bus.connection import mapped_errors
from headrace.streams.bus.ends import log_ends
from headrace.streams.bus.reads import start_offsets
from headrace.streams.client.bus import Owner, Position, Start

SESSION_MS, HEARTBEAT_MS = 6_000, 2_000
"""A dead member's partitions are free after 6 s, Kafka's least allowed by default."""

STOP_S = 5.0


class KafkaBus:
    """A bus that speaks Kafka's protocol.

    Args:
        options: aiokafka client options (`streams.bus.options.client_options`).
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = dict(options)

    def reader(self, topic: str, *, group: str | None, start: str) -> KafkaReader:
        """See `Bus.reader`."""
        return KafkaReader(self._options, topic, group=group, start=start)

    def writer(self, topic: str) -> KafkaWriter:
        """See `Bus.writer`."""
        return KafkaWriter(self._options, topic)


def start_time_ms(start: str) -> int | None:
    """Milliseconds since 1970 of a start that is a time; None for ``latest`` and ``earliest``.

    Raises:
        SettingsError: neither of these. Fatal.

    Example:
        >>> start_time_ms("2026-11-21T10:00:00Z")
        1795255200000
    """
    if start in ("latest", "earliest"):
        return None
    try:
        return round(datetime.fromisoformat(start).timestamp() * 1000)
    except ValueError as error:
        raise SettingsError(
            f"start {start!r} is no place in a topic; use latest, earliest or a time "
            f"like 2026-11-21T10:00:00Z"
        ) from error


async def partition_count(options: Mapping[str, Any], topic: str, tried: str) -> int:
    """Partitions of a topic; aiokafka itself would wait long for one that is not there.

    Raises:
        TopicError: it is not there. Fatal.
        BusUnavailableError: retryable. BusRefusedError: fatal.
    """
    found = await partition_counts(options)
    if topic not in found:
        raise TopicError(
            f"{tried} {topic!r} found no such topic; make it with: headrace topics apply PIPELINE"
        )
    return found[topic]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep aiokafka from logging an error that is raised as well."""
    sender = logging.getLogger("aiokafka.producer.sender")
    before, sender.disabled = sender.disabled, True
    try:
        yield
    finally:
        sender.disabled = before


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    def __init__(self, reader: KafkaReader) -> None:
        self._reader = reader

    async def on_partitions_revoked(self, revoked: Set[Any]) -> None:
        await self._reader.revoked(revoked)

    async def on_partitions_assigned(self, assigned: Set[Any]) -> None:
        await self._reader.assigned(assigned)


class KafkaReader:
    """See `BusReader`. Reads committed records only."""

    def __init__(
        self, options: Mapping[str, Any], topic: str, *, group: str | None, start: str
    ) -> None:
        self._topic, self._group, self._start = topic, group, start
        self._start_ms = start_time_ms(start)
        self._options = dict(options)
        self._consumer: Any = None
        self._owner: Owner | None = None
        self._ready: set[Any] = set()
        self._failed: BaseException | None = None

    async def start(self, owner: Owner) -> None:
        """See `BusReader.start`."""
        self._owner = owner
        try:
            with mapped_errors(f"reading {self._topic!r}"):
                await self._connect()
        except BaseException:
            await self.stop()
            raise
        self._raise_failed()

    async def fetch(self, *, max_rows: int, timeout_s: float) -> list[RecordBatch]:
        """See `BusReader.fetch`."""
        self._raise_failed()
        with mapped_errors(f"reading {self._topic!r}"):
            got = await self._consumer.getmany(
                timeout_ms=round(timeout_s * 1000), max_records=max_rows
            )
        # What was fetched before the owner said where to begin is read again from there.
        return [
            self._batch(part.partition, rows) for part, rows in got.items() if part in self._ready
        ]

    async def commit(self, positions: Mapping[int, Position]) -> None:
        """See `BusReader.commit`."""
        marks = {
            TopicPartition(self._topic, partition): (p.offset, p.note)
            for partition, p in positions.items()
        }
        with mapped_errors(f"committing {self._group!r} on {self._topic!r}"):
            await self._consumer.commit(marks)

    async def positions(self) -> dict[int, int]:
        """See `BusReader.positions`."""
        with mapped_errors(f"reading {self._topic!r}"):
            return {p.partition: await self._consumer.position(p) for p in self._ready}

    async def ends(self) -> dict[int, int]:
        """See `BusReader.ends`."""
        with mapped_errors(f"reading {self._topic!r}"):
            ends = await log_ends(self._consumer, self._ready)
        return {part.partition: end for part, end in ends.items()}

    async def stop(self) -> None:
        """See `BusReader.stop`; bounded, also while the bus is away."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            try:
                async with asyncio.timeout(STOP_S):
                    await consumer.stop()
            except TimeoutError:
                return

    async def revoked(self, parts: Set[Any]) -> None:
        """Told by the group: its members change."""
        if self._owner is not None and parts:
            await self._owner.revoked({part.partition for part in parts})
        self._ready.difference_update(parts)

    async def assigned(self, parts: Set[Any]) -> None:
        """Told by the group: these are ours. An error ends the next `fetch`, not the group."""
        try:
            with mapped_errors(f"reading {self._topic!r}"):
                await self._begin(list(parts))
        # Raised in aiokafka's task, where nobody would see it: kept for the reader's own.
        except Exception as error:  # noqa: BLE001
            self._failed = error

    async def _connect(self) -> None:
        partitions = await partition_count(self._options, self._topic, "reading")
        fallback = "earliest" if self._start == "earliest" else "latest"
        self._consumer = AIOKafkaConsumer(
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset=fallback,
            isolation_level="read_committed",
            fetch_max_wait_ms=100,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            **self._options,
        )
        if self._group is not None:
            self._consumer.subscribe([self._topic], listener=_Listener(self))
        await self._consumer.start()
        if self._group is None:
            parts = [TopicPartition(self._topic, p) for p in range(partitions)]
            self._consumer.assign(parts)
            await self._begin(parts)

    async def _begin(self, parts: list[Any]) -> None:
        """Ask the owner where to begin, and begin there."""
        owner = self._owner
        if owner is None or not parts:
            return
        # Nothing is read yet, and a fetch that waits for records holds up what is asked: 0.1 s.
        self._consumer.pause(*parts)
        committed = await self._committed(parts)
        begins = await self._consumer.beginning_offsets(parts)
        firsts = await self._firsts([part for part in parts if part not in committed])
        starts: dict[int, Start] = {}
        for part in parts:
            begin = begins[part]
            held = committed.get(part)
            if held is None:
                starts[part.partition] = Start(Position(firsts[part], ""), True, begin)
                continue
            expired = max(0, begin - held.offset)
            position = Position(held.offset + expired, held.metadata or "")
            starts[part.partition] = Start(position, False, begin, expired)
        places = await owner.assigned(starts)
        for part in parts:
            self._consumer.seek(part, places[part.partition])
        self._consumer.resume(*parts)
        self._ready.update(parts)

    async def _committed(self, parts: list[Any]) -> dict[Any, Any]:
        """Offset and note of each partition that has them.

        The note is only on aiokafka's coordinator: `committed` drops it.
        """
        if self._group is None:
            return {}
        found = await self._consumer._coordinator.fetch_committed_offsets(parts)
        return {part: mark for part, mark in found.items() if mark.offset >= 0}

    async def _firsts(self, parts: list[Any]) -> dict[Any, int]:
        """Where a group that never read begins."""
        if not parts:
            return {}
        start: Literal["earliest", "latest"] = "earliest" if self._start == "earliest" else "latest"
        return await start_offsets(
            self._consumer, parts, start if self._start_ms is None else self._start_ms
        )

    def _batch(self, partition: int, rows: Sequence[Any]) -> RecordBatch:
        headers = [row.headers for row in rows]
        return RecordBatch(
            self._topic,
            partition,
            np.array([row.offset for row in rows], np.int64),
            np.array([row.timestamp for row in rows], np.int64),
            [row.key for row in rows],
            [row.value for row in rows],
            headers if any(headers) else None,
        )

    def _raise_failed(self) -> None:
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed


class KafkaWriter:
    """See `BusWriter`: acknowledged by all replicas; idempotent unless the bus cannot."""

    def __init__(self, options: Mapping[str, Any], topic: str) -> None:
        self._options, self._topic = dict(options), topic
        self._producer: Any = None
        self.idempotent = True

    async def start(self) -> int:
        """See `BusWriter.start`."""
        partitions = await partition_count(self._options, self._topic, "writing to")
        try:
            await self._connect(idempotent=True)
        except BusRefusedError:
            raise
        except HeadraceError:
            # The embedded bus has no ids for producers; a bus that is away fails again.
            await self._connect(idempotent=False)
            self.idempotent = False
        return partitions

    async def write(
        self,
        partition: int,
        keys: Sequence[bytes | None],
        values: Sequence[bytes],
        headers: Sequence[Headers],
    ) -> list[int]:
        """See `BusWriter.write`."""
        offsets: list[int] = []
        with mapped_errors(f"writing to '{self._topic}[{partition}]'"):
            while len(offsets) < len(values):
                first = len(offsets)
                batch = self._producer.create_batch()
                for row in range(first, len(values)):
                    added = batch.append(
                        key=keys[row], value=values[row], timestamp=None, headers=list(headers[row])
                    )
                    if added is None:
                        break
                count = batch.record_count()
                acked = await self._producer.send_batch(batch, self._topic, partition=partition)
                base = (await acked).offset
                offsets += range(base, base + count) if base >= 0 else [-1] * count
        return offsets

    async def stop(self) -> None:
        """See `BusWriter.stop`; bounded, also while the bus is away."""
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                async with asyncio.timeout(STOP_S):
                    await producer.stop()
            except TimeoutError:
                return

    async def _connect(self, *, idempotent: bool) -> None:
        self._producer = AIOKafkaProducer(
            acks="all",
            enable_idempotence=idempotent,
            max_batch_size=EVENT_LIMIT_BYTES // 2,
            max_request_size=EVENT_LIMIT_BYTES,
            **self._options,
        )
        try:
            with mapped_errors(f"writing to {self._topic!r}"), _quiet():
                await self._producer.start()
        except BaseException:
            await self.stop()
            raise
