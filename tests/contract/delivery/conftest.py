"""Every transactional outlet that keeps the contract: in memory, and on a real Kafka."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from fakes.outlet_worlds import KafkaWorld, MemoryWorld, OutletWorld


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.integration)])
def bus(request: pytest.FixtureRequest) -> str | None:
    """URL of a real Kafka; None is the bus in memory."""
    if request.param == "memory":
        return None
    url: str = request.getfixturevalue("kafka_url")
    return url


@pytest.fixture
async def world(bus: str | None, unique: Callable[[str], str]) -> AsyncIterator[OutletWorld]:
    """One source partition with its group, one output partition, any number of workers."""
    if bus is None:
        yield MemoryWorld()
        return
    kafka = KafkaWorld(bus, unique)
    await kafka.prepare()
    try:
        yield kafka
    finally:
        await kafka.end()
