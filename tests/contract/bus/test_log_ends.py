"""Where a log ends: the offset after its last record, on every bus and however it was written."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import ClusterAuthorizationFailedError
from fakes.bus_logs import HANGING, SILENT, FakeLogs, Logs, RealLogs, write_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.streams.bus import reads
from headrace.streams.bus.ends import log_ends

NOT_LEADER, OUT_OF_RANGE, UNREADABLE, NO_RIGHTS_AT_ALL = 6, 1, 29, 31

MARKED_S = 20.0

Ends = Callable[[Any, Any], Awaitable[dict[Any, int]]]
BATCHES = st.lists(
    st.lists(st.integers(1, 40), max_size=4), min_size=1, max_size=3
)  # by partition, the records of each record batch

few = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


async def new_logs(url: str | None, partitions: int = 1, **options: Any) -> Logs:
    """A new topic, on the bus at `url` or in memory."""
    if url is None:
        return FakeLogs(partitions=partitions)
    return await RealLogs(url, f"ends-{uuid.uuid4().hex[:12]}", partitions).start(**options)


@pytest.fixture(params=[None, "tansu_url", "kafka_url"], ids=["fake", "embedded", "kafka"])
def url(request: pytest.FixtureRequest) -> str | None:
    """Each bus in turn; None is the fake one."""
    found: str | None = request.param and request.getfixturevalue(request.param)
    return found


async def check_ends(ends: Ends, url: str | None, batches: list[list[int]]) -> None:
    """Ends after every partition was written, those of empty ones too."""
    logs = await new_logs(url, len(batches))
    try:
        written = await write_all(logs, batches)
        assert await ends(logs.consumer, logs.parts) == written
    finally:
        await logs.stop()


@few
@given(BATCHES)
def test_the_end_is_after_the_last_record(url: str | None, batches: list[list[int]]) -> None:
    """However many records a record batch holds, and in partitions that hold none."""
    asyncio.run(check_ends(log_ends, url, batches))


@pytest.mark.parametrize("name", [None, "tansu_url"])
async def test_the_contract_can_fail(request: pytest.FixtureRequest, name: str | None) -> None:
    """The end as listed is another on the embedded bus and on the fake."""

    async def listed(consumer: Any, parts: Any) -> dict[Any, int]:
        found: dict[Any, int] = await consumer.end_offsets(parts)
        return found

    bus = name and request.getfixturevalue(name)
    await check_ends(listed, bus, [[1], [1, 1], []])
    with pytest.raises(AssertionError):
        await check_ends(listed, bus, [[1, 2]])


async def test_nothing_asked_is_nothing(url: str | None) -> None:
    """No partitions have no ends."""
    logs = await new_logs(url)
    try:
        assert await log_ends(logs.consumer, []) == {}
    finally:
        await logs.stop()


async def test_positions_stay_as_they_are(bus_url: str) -> None:
    """A consumer that reads, and holds a partition, goes on where it was."""
    logs = await new_logs(bus_url, 2, auto_offset_reset="none")
    try:
        await write_all(logs, [[6, 4], [3]])
        consumer, (read, held) = logs.consumer, logs.parts
        consumer.assign([read, held])
        consumer.seek(read, 2)
        consumer.seek(held, 1)
        consumer.pause(held)
        assert await log_ends(consumer, logs.parts) == {read: 10, held: 3}
        assert await consumer.position(read) == 2
        assert await consumer.position(held) == 1
        assert consumer.paused() == {held}
        assert (await consumer.getone(read)).offset == 2
    finally:
        await logs.stop()


async def test_the_end_moves_with_the_log(url: str | None) -> None:
    """Asked while it is written, it is never below what was written before nor above after."""
    logs = await new_logs(url)
    part, written = logs.parts[0], 0
    try:
        for rows in (3, 1, 7, 2):
            asking = asyncio.create_task(log_ends(logs.consumer, logs.parts))
            await logs.write(part, rows)
            assert written <= (await asking)[part] <= written + rows
            written += rows
        assert await log_ends(logs.consumer, logs.parts) == {part: written}
    finally:
        await logs.stop()


async def test_a_range_is_described_and_read_to_its_last_record(bus_url: str) -> None:
    """Records of one record batch: their range, each of them, and none after."""
    logs = await new_logs(bus_url, 2)
    part = logs.parts[0]
    try:
        await logs.write(part, 6)
        assert await reads.log_ranges(logs.options, part.topic) == {0: (0, 6), 1: (0, 0)}
        found = [b async for b in reads.read_range(logs.options, part.topic, 0, 0, 6)]
        assert [o for b in found for o in b.offsets.tolist()] == list(range(6))
        last = await reads.last_record(logs.options, part.topic, 0, 5)
        assert last is not None
        assert last.offset == 5
        assert await reads.last_record(logs.options, part.topic, 0, 6) is None
    finally:
        await logs.stop()


async def test_deleted_records_move_the_beginning_only(kafka_url: str) -> None:
    """Of six records four are deleted, then all: the end stays."""
    logs = await new_logs(kafka_url)
    part = logs.parts[0]
    admin = AIOKafkaAdminClient(**logs.options)
    await admin.start()
    try:
        await logs.write(part, 6)
        for first in (4, 6):
            await admin.delete_records({part: RecordsToDelete(before_offset=first)})
            assert await reads.log_range(logs.options, part.topic, 0) == (first, 6)
    finally:
        await admin.close()
        await logs.stop()


async def test_offsets_without_records_count(kafka_url: str) -> None:
    """A log ends after a transaction's marker; for committed reads, before an open one."""
    logs = await new_logs(kafka_url)
    committed = await new_logs(kafka_url, isolation_level="read_committed")
    part = logs.parts[0]
    producer = AIOKafkaProducer(**logs.options, transactional_id=part.topic)
    await producer.start()
    try:
        async with producer.transaction():
            await producer.send_and_wait(part.topic, b"v", partition=0)
        # The bus says that a transaction is ended before its marker is in the log.
        async with asyncio.timeout(MARKED_S):
            while (marked := await log_ends(logs.consumer, [part])) == {part: 1}:
                await asyncio.sleep(0.05)
        assert marked == {part: 2}
        await producer.begin_transaction()
        await producer.send_and_wait(part.topic, b"v", partition=0)
        await committed.consumer._client.fetch_all_metadata()
        assert await log_ends(logs.consumer, [part]) == {part: 3}
        assert await log_ends(committed.consumer, [part]) == {part: 2}
        await producer.commit_transaction()
    finally:
        await producer.stop()
        await logs.stop()
        await committed.stop()


@pytest.mark.parametrize("fault", [NOT_LEADER, OUT_OF_RANGE, SILENT])
async def test_a_passing_fault_is_asked_again(fault: int | str) -> None:
    """Another leader, a log that moved on meanwhile, an answer without the partition."""
    logs = FakeLogs()
    await logs.write(logs.parts[0], 6)
    logs.faults.extend([fault, fault])
    assert await log_ends(logs.consumer, logs.parts) == {logs.parts[0]: 6}
    assert logs.looked_for_leaders == (2 if fault == NOT_LEADER else 0)


async def test_a_topic_that_may_not_be_read_ends_where_it_is_listed() -> None:
    """A worker may write its outputs, and need not read them."""
    logs = FakeLogs()
    await logs.write(logs.parts[0], 1)
    logs.faults.append(UNREADABLE)
    assert await log_ends(logs.consumer, logs.parts) == {logs.parts[0]: 1}


async def test_a_refusal_is_raised_at_once() -> None:
    """What will not pass is not asked again."""
    logs = FakeLogs()
    await logs.write(logs.parts[0], 1)
    logs.faults.append(NO_RIGHTS_AT_ALL)
    with pytest.raises(ClusterAuthorizationFailedError):
        await log_ends(logs.consumer, logs.parts)


async def test_a_bus_that_does_not_answer_is_left_after_the_request_timeout() -> None:
    """The time for a request bounds it all; also where the bus answers, but never the question."""
    for faults in ([HANGING], [SILENT] * 100):
        logs = FakeLogs(timeout_ms=100)
        await logs.write(logs.parts[0], 1)
        logs.faults.extend(faults)
        with pytest.raises(TimeoutError):
            await log_ends(logs.consumer, logs.parts)


async def test_a_cancelled_question_ends() -> None:
    """Cancelled while it waits for an answer, it is cancelled, and nothing of it goes on."""
    logs = FakeLogs()
    await logs.write(logs.parts[0], 1)
    logs.faults.append(HANGING)
    before = asyncio.all_tasks()
    asking = asyncio.create_task(log_ends(logs.consumer, logs.parts))
    await logs.hung.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert asyncio.all_tasks() == before
