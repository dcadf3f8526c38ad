"""A local service for a session of tests, or the reason why there is none."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import NoReturn

import pytest

from headrace.schemas.errors import HeadraceError
from headrace.streams.local.embedded_bus import EmbeddedBus
from headrace.streams.local.embedded_store import EmbeddedStore
from headrace.streams.local.local_kafka import LocalKafka


def without(reason: str) -> NoReturn:
    """Skip for want of a service, or fail where services are required."""
    if os.environ.get("HEADRACE_REQUIRE_SERVICES") == "1":
        pytest.fail(f"HEADRACE_REQUIRE_SERVICES=1, but {reason}")
    pytest.skip(reason, allow_module_level=True)


def running(service: EmbeddedBus | EmbeddedStore | LocalKafka) -> Iterator[str]:
    """The URL of a service that runs for the session."""
    try:
        asyncio.run(service.start())
    except HeadraceError as error:
        without(str(error))
    yield service.url
    asyncio.run(service.stop())
