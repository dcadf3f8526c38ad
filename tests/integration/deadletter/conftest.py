"""A plant on each bus."""

from __future__ import annotations

import asyncio

import pytest
from integration.deadletter.plant import Plant


@pytest.fixture
def plant(request, tmp_path, bus_url, store_url, unique) -> Plant:
    """A new pipeline, its mapping wrong, on each bus in turn."""
    embedded = "tansu" in request.node.callspec.id
    made = Plant(tmp_path, bus_url, store_url, unique("plant"), embedded=embedded)
    asyncio.run(made.prepare())
    return made


@pytest.fixture
def kafka_plant(tmp_path, kafka_url, store_url, unique) -> Plant:
    """The same on Apache Kafka."""
    made = Plant(tmp_path, kafka_url, store_url, unique("plant"), embedded=False)
    asyncio.run(made.prepare())
    return made
