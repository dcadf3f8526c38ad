"""Reading a stretch of one partition fast, beside any group: the bus is asked ahead.

A lone consumer of the client library asks for the next records only when those it holds are read.
Here each response tells by its heads alone where the next begins, so the bus works meanwhile; and a
response is read as columns (`unframe.py`). Nothing of a group is touched.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from aiokafka.consumer.fetcher import (  # type: ignore[import-untyped]
    READ_COMMITTED,
    PartitionRecords,
)
from aiokafka.errors import (  # type: ignore[import-untyped]
    CorruptRecordException,
    KafkaError,
    NoError,
    OffsetOutOfRangeError,
    for_code,
)
from aiokafka.protocol.fetch import FetchRequest  # type: ignore[import-untyped]
from aiokafka.record.memory_records import MemoryRecords  # type: ignore[import-untyped]

from headrace.schemas.errors import BusUnavailableError, StateError
from headrace.streams.bus.raw_batch import RawBatch
from headrace.streams.bus.unframe import OldFormatError, heads, unframe
from headrace.streams.transport import columnar

FETCH_BYTES = 8 << 20
"""Of one response: a request costs nothing per record, and two are held at most."""

_WAIT_MS, _AGAIN_S, _CORRUPT_TRIES = 500, 0.05, 3


async def scan(
    consumer: Any,
    part: Any,
    start: int,
    stop: int,
    *,
    patience_s: float,
    fetch_bytes: int = FETCH_BYTES,
) -> AsyncIterator[RawBatch]:
    """Records from `start` up to but not including `stop`, in order.

    Args:
        consumer: A started `AIOKafkaConsumer` that knows the topic; its isolation level holds.
            Its own assignment and positions stay as they are.
        part: Topic and partition.
        start: First offset.
        stop: Offset to stop before; not beyond the log's end.
        patience_s: Longest time without progress, seconds.
        fetch_bytes: Most bytes of one response (a larger record comes alone).

    Yields:
        Batches of at least one record. Offsets without a record (transaction markers, compaction)
        are passed over.

    Raises:
        StateError: `start`, or what comes after what was read, has left the log; or a record batch
            fails its checksum each time. Fatal.
        BusUnavailableError: no progress for `patience_s`; an open transaction may hold it up.
        KafkaError, OSError: as the library raises them; to be mapped by the caller.
    """
    reading = _Scan(consumer, part, fetch_bytes)
    position, moved = start, time.monotonic()
    asked = asyncio.ensure_future(reading.ask(position))
    try:
        while position < stop:
            answer = await asked
            behind = position if answer is None else answer.next
            if behind < stop:
                asked = asyncio.ensure_future(reading.ask(behind))
            if answer is not None:
                batch, position = answer.read(position)
                if position != behind and position < stop:
                    asked.cancel()
                    asked = asyncio.ensure_future(reading.ask(position))
                if position > answer.begin:
                    moved = time.monotonic()
                if batch is not None and (wanted := _below(batch, stop)):
                    yield batch.at(slice(wanted))
            if position < stop and time.monotonic() - moved > patience_s:
                raise BusUnavailableError(
                    f"reading {part.topic}[{part.partition}] stands at {position} for "
                    f"{patience_s:g} s, expected to reach {stop}; an open transaction may hold "
                    f"it up"
                )
    finally:
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)


def _below(batch: RawBatch, stop: int) -> int:
    return int(np.searchsorted(batch.offsets, stop))


def heads_end(raw: bytes, start: int) -> int:
    """The offset after the whole record batches of a response, by their heads; `start` for none."""
    try:
        ends = [head.end for head in heads(raw)]
    except OldFormatError:
        return start  # an old format: told once it is read
    return max([start, *ends[-1:]])


class _Answer:
    """One fetch response of one partition."""

    def __init__(self, scan: _Scan, raw: bytes, aborted: Any, begin: int) -> None:
        self._scan, self._raw, self._aborted = scan, raw, aborted
        self.begin = begin
        self.next = heads_end(raw, begin)

    def read(self, position: int) -> tuple[RawBatch | None, int]:
        """Its records from `position` on, and the offset after what it covers."""
        part = self._scan.part
        try:
            found = self._found(position)
            try:
                batch = unframe(part, found, self._raw)
            except OldFormatError:
                found = self._found(position)
                made = columnar.read_partition(part, found, exact=True)
                batch = None if made is None else RawBatch.of(made)
        except CorruptRecordException as error:
            self._scan.corrupt(position, error)
            return None, position
        return batch, int(found.next_fetch_offset)

    def _found(self, position: int) -> Any:
        part, isolation = self._scan.part, self._scan.isolation
        records = MemoryRecords(self._raw)
        found = PartitionRecords(
            part, records, self._aborted, position, None, None, True, isolation
        )
        # Unbroken, this cycle would hold the response until the next garbage collection.
        found._records_iterator = None
        return found


class _Scan:
    """Asks for one partition."""

    def __init__(self, consumer: Any, part: Any, fetch_bytes: int) -> None:
        self._consumer, self.part, self._fetch_bytes = consumer, part, fetch_bytes
        self.isolation = consumer._fetcher._isolation_level
        self._corrupt_times = 0

    async def ask(self, offset: int) -> _Answer | None:
        """What the bus answers for an offset; None where it had nothing or is to be asked again."""
        client, part = self._consumer._client, self.part
        node = client.cluster.leader_for_partition(part)
        if node is None or node < 0:
            await self._look_again()
            return None
        wanted = (part.partition, offset, self._fetch_bytes)
        request = FetchRequest(
            _WAIT_MS, 1, self._fetch_bytes, self.isolation, [(part.topic, [wanted])], rack_id=""
        )
        try:
            answer = await client.send(node, request)
            return await self._take(answer, offset)
        except OffsetOutOfRangeError:
            raise StateError(
                f"reading {part.topic}[{part.partition}]@{offset} failed, the log no longer holds "
                f"it: retention took it; begin later, or keep the topic longer"
            ) from None
        except KafkaError as error:
            if not error.retriable:
                raise
            await self._look_again()
            return None

    async def _take(self, answer: Any, offset: int) -> _Answer | None:
        for _, rows in answer.topics:
            for _, code, _, *rest in rows:
                kind = for_code(code)
                if kind is not NoError:
                    raise kind(self.part)
                raw = rest[-1]
                # v4: stable end, aborted, records; v5 has the log's start before `aborted`.
                aborted = rest[1 if answer.API_VERSION == 4 else 2]
                if raw:
                    return _Answer(
                        self,
                        raw,
                        aborted if self.isolation == READ_COMMITTED else None,
                        offset,
                    )
        await asyncio.sleep(_AGAIN_S)
        return None

    async def _look_again(self) -> None:
        await asyncio.sleep(_AGAIN_S)
        await self._consumer._client.force_metadata_update()

    def corrupt(self, offset: int, error: Exception) -> None:
        """Count a wrong checksum; fetched again, it may have been the network.

        Raises:
            StateError: too often.
        """
        self._corrupt_times += 1
        if self._corrupt_times >= _CORRUPT_TRIES:
            raise StateError(
                f"a record batch of {self.part.topic}[{self.part.partition}] at or after offset "
                f"{offset} failed its checksum {_CORRUPT_TRIES} times; check the broker's disk"
            ) from error
