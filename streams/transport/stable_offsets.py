"""The group's offset once no transaction is about to move it (KIP-447).

aiokafka 0.14 speaks OffsetFetch up to version 3, which answers with the offset from before a
transaction that is committed but whose marker the group's coordinator has not taken in yet. A new
owner that began there would publish the last batch twice. Version 7 can be told to wait.
"""

from __future__ import annotations

import time
from typing import Any

from aiokafka import TopicPartition, errors  # type: ignore[import-untyped]
from aiokafka.protocol.api import Request, RequestStruct, Response  # type: ignore[import-untyped]
from aiokafka.protocol.types import (  # type: ignore[import-untyped]
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

from headrace.schemas.errors import BusUnavailableError
from headrace.streams.transport.options import log
from headrace.streams.transport.transactional_producer import TRANSACTION_S

UNSTABLE = 88
"""The bus's code for: a transaction that moves this offset is not decided yet."""

LONG_S = TRANSACTION_S + 15.0
"""By then the bus has ended every transaction that it knows of: it looks every 10 s for those whose
time is up."""


class StableOffsetResponse(Response):  # type: ignore[misc]  # untyped base
    """OffsetFetch, version 7."""

    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", CompactString("utf-8")),
                        ("error_code", Int16),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("error_code", Int16),
        ("tags", TaggedFields),
    )


class StableOffsetStruct(RequestStruct):  # type: ignore[misc]  # untyped base
    """OffsetFetch, version 7."""

    API_KEY = 9
    API_VERSION = 7
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = StableOffsetResponse
    SCHEMA = Schema(
        ("group", CompactString("utf-8")),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                ("partitions", CompactArray(Int32)),
                ("tags", TaggedFields),
            ),
        ),
        ("require_stable", Boolean),
        ("tags", TaggedFields),
    )


class StableOffsetRequest(Request[StableOffsetStruct]):  # type: ignore[misc]  # untyped base
    """Asks for the offset of one partition; only `stable`, not while a transaction moves it."""

    API_KEY = 9

    def __init__(self, group: str, part: TopicPartition, *, stable: bool) -> None:
        self._group, self._part, self._stable = group, part, stable

    def build(self, struct: type[StableOffsetStruct]) -> StableOffsetStruct:
        """The request on the wire."""
        topics: list[Any] = [(self._part.topic, [self._part.partition], {})]
        return struct(self._group, topics, self._stable, {})


async def stable_offset(coordinator: Any, part: TopicPartition) -> int | None:
    """The group's offset of a partition, None when it has none.

    Args:
        coordinator: aiokafka's coordinator of the group.
        part: The partition.

    Raises:
        BusUnavailableError: a transaction that moves it is not decided yet. Retryable.
        KafkaError: what else the bus answered.
    """
    found = await _fetch(coordinator, part, stable=True)
    return None if found is None or found[0] < 0 else found[0]


class StableOffsets:
    """The offsets of one group, and for how long each has waited for a transaction.

    One that waits for longer than `LONG_S` waits for a transaction that the bus has lost sight of:
    its record is on the group's log, and nobody will decide it. It is told once, with the id that
    the last owner noted.
    """

    def __init__(self) -> None:
        self._asked: dict[TopicPartition, tuple[float, float]] = {}
        self._told: set[TopicPartition] = set()

    async def offset(self, coordinator: Any, part: TopicPartition) -> int | None:
        """As `stable_offset`.

        Raises:
            BusUnavailableError, KafkaError: as there.
        """
        try:
            found = await stable_offset(coordinator, part)
        except BusUnavailableError:
            await self._waits(coordinator, part)
            raise
        self._asked.pop(part, None)
        self._told.discard(part)
        return found

    async def _waits(self, coordinator: Any, part: TopicPartition) -> None:
        now = time.monotonic()
        since, last = self._asked.get(part, (now, now))
        if now - last > LONG_S:  # it was another's meanwhile
            since = now
        self._asked[part] = since, now
        waited_s = now - since
        if waited_s < LONG_S or part in self._told:
            return
        self._told.add(part)
        log.error(
            "the offset of %s[%d] waits since %.0f s for a transaction that the bus does not end, "
            "expected at most %.0f s; its last owner noted %r: `headrace topics undecided` says "
            "what is known of it",
            part.topic, part.partition, waited_s, LONG_S, await offset_note(coordinator, part),
        )  # fmt: skip


async def offset_note(coordinator: Any, part: TopicPartition) -> str:
    """What was noted beside the group's offset when it was last committed; "" is nothing.

    Raises:
        KafkaError: what the bus answered.
    """
    found = await _fetch(coordinator, part, stable=False)
    return "" if found is None else found[1]


async def _fetch(coordinator: Any, part: TopicPartition, *, stable: bool) -> tuple[int, str] | None:
    await coordinator.ensure_coordinator_known()
    request = StableOffsetRequest(coordinator.group_id, part, stable=stable)
    answer = await coordinator._send_req(request)
    _raise(coordinator, answer.error_code, part)
    for _, partitions, _ in answer.topics:
        for number, offset, _, note, code, _ in partitions:
            if number == part.partition:
                _raise(coordinator, code, part)
                return int(offset), note or ""
    return None


def _raise(coordinator: Any, code: int, part: TopicPartition) -> None:
    if code == UNSTABLE:
        raise BusUnavailableError(
            f"the offset of {part.topic}[{part.partition}] waits for a transaction to be decided; "
            f"it is asked for again",
            retry_after_s=0.05,
        )
    kind = errors.for_code(code)
    if kind is errors.NoError:
        return
    if kind in (errors.NotCoordinatorForGroupError, errors.GroupCoordinatorNotAvailableError):
        coordinator.coordinator_dead()
    raise kind(coordinator.group_id)
