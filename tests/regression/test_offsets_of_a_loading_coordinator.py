"""A broker that has just started must not look like one that never saw the group's offsets."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition, errors
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.protocol.commit import OffsetFetchRequest

from headrace.schemas.settings import BusSettings, Settings, WorkerSettings
from headrace.schemas.topics import TopicSpec
from headrace.streams.bus.admin import ensure_topics
from headrace.streams.bus.groups import first_positions
from headrace.streams.local.services import open_bus


class Coordinator:
    """As much of a coordinator as the repaired method needs."""

    group_id = "g"
    coordinator_id = 1

    def __init__(self, error_code: int) -> None:
        response = SimpleNamespace(topics=[], error_code=error_code)
        self._client = SimpleNamespace(send=self._answer)
        self._response = response
        self.dead = False

    async def _answer(self, *_: object, **__: object) -> SimpleNamespace:
        return self._response

    def coordinator_dead(self) -> None:
        self.dead = True


async def test_the_groups_own_error_is_raised() -> None:
    """Load in progress is raised, and is retriable, instead of reading as no offsets at all."""
    request = OffsetFetchRequest("g", [("t", [0])])

    with pytest.raises(errors.GroupLoadInProgressError) as raised:
        await GroupCoordinator._send_req(Coordinator(14), request)
    assert raised.value.retriable

    assert (await GroupCoordinator._send_req(Coordinator(0), request)).topics == []


async def test_a_moved_coordinator_is_looked_for_again() -> None:
    """Not coordinator: the client is told to find the new one."""
    coordinator = Coordinator(16)

    with pytest.raises(errors.NotCoordinatorForGroupError):
        await GroupCoordinator._send_req(coordinator, OffsetFetchRequest("g", [("t", [0])]))
    assert coordinator.dead


@pytest.mark.usefixtures("kafka_url")
async def test_offsets_are_there_right_after_a_brokers_start(tmp_path) -> None:
    """Asked at once, time and again, a restarted broker gives the committed offset or an error."""
    settings = Settings(
        bus=BusSettings(kind="kafka"), worker=WorkerSettings(data_dir=str(tmp_path))
    )
    part = TopicPartition("regression", 0)
    bus = await open_bus(settings)
    try:
        await ensure_topics(
            bus.options, [TopicSpec("regression", "telemetry", 1, 3_600_000, "raw", True)]
        )
        assert await first_positions(bus.options, "g", ["regression"], "earliest")
        for _ in range(2):
            await bus.stop()
            bus = await open_bus(settings)
            consumer = AIOKafkaConsumer(
                **{**bus.options, "retry_backoff_ms": 10}, group_id="g", enable_auto_commit=False
            )
            await consumer.start()
            consumer.assign([part])
            found = [await consumer.committed(part) for _ in range(5)]
            await consumer.stop()
            assert found == [0] * 5
    finally:
        await bus.stop()
