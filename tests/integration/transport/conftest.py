"""Brokers for the transport's tests, one of each for the whole session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from integration.transport import services
from integration.transport.harness import Bus


@pytest.fixture(scope="session")
def transport_kafka() -> Iterator[Bus]:
    with services.kafka() as (address, sasl_address):
        yield Bus(address, embedded=False, sasl_address=sasl_address)


@pytest.fixture(scope="session")
def transport_embedded() -> Iterator[Bus]:
    with services.embedded() as address:
        yield Bus(address, embedded=True)


@pytest.fixture(params=["kafka", "embedded"])
def either_bus(request: pytest.FixtureRequest) -> Bus:
    bus: Bus = request.getfixturevalue(f"transport_{request.param}")
    return bus
