"""A bus in memory, and a world to publish predictions in."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from fakes.memory_bus import MemoryBus


def prediction(source: str, offset: int, *, rev: int = 0, **fields: object) -> bytes:
    """One prediction as a worker publishes it."""
    times = {"device": 1_000, "ingest": 10_000 + offset, "served": 0} | fields.pop("times_ms", {})
    return msgspec.json.encode(
        {
            "id": f"{source}-{offset}",
            "rev": rev,
            "event_id": f"e{offset}",
            "device_id": "press-07",
            "event_time": "1970-01-01T00:00:01.000Z",
            "score": 0.5,
            "label": "normal",
            "confidence": 0.5,
            "tier": "light",
            "flags": [],
            "feature_age_ms": 0,
            "model": {"name": "m", "version": 1, "digest": "9f2c41d0"},
            "source": f"{source}@{offset}",
            "times_ms": times,
            **fields,
        }
    )


class World:
    """A topic of predictions that a test publishes into, on some bus."""

    topic = "headrace.press.predictions.v1"

    def __init__(self, bus: MemoryBus) -> None:
        self.bus = bus
        bus.create(self.topic, 2)

    async def publish(self, offsets: Sequence[int], partition: int = 0, **fields: object) -> None:
        """Predictions of these source offsets, as one worker writes them."""
        source = f"headrace.press.telemetry.v1[{partition}]"
        values = [prediction(source, offset, **fields) for offset in offsets]
        await self.put(partition, values)

    async def put(self, partition: int, values: Sequence[bytes]) -> None:
        """Records as they are."""
        await self.bus.append(self.topic, partition, [(None, value, ()) for value in values])


@pytest.fixture
def memory_bus() -> MemoryBus:
    """A bus of this test's own."""
    return MemoryBus()


@pytest.fixture(params=["notes kept", "notes forgotten"])
def world(request: pytest.FixtureRequest) -> World:
    """Predictions on a bus in memory."""
    return World(MemoryBus(keeps_notes=request.param == "notes kept"))


@pytest.fixture
def make_prediction():
    """The function that writes one prediction."""
    return prediction


@pytest.fixture(scope="session")
def make_bus() -> type[MemoryBus]:
    """Makes buses, for tests that need one for each of many examples."""
    return MemoryBus
