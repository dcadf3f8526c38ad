"""The campaign's own store, and where its facts go."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from headrace.schemas.errors import HeadraceError
from headrace.schemas.settings import BusSettings
from headrace.streams.drill.own_store import OwnStore
from headrace.streams.drill.services import Services


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnStore]:
    """A store that nobody else uses: it is emptied and killed."""
    store = OwnStore(tmp_path_factory.mktemp("store"))
    try:
        asyncio.run(store.start())
    except HeadraceError as error:
        if os.environ.get("HEADRACE_REQUIRE_SERVICES") == "1":
            raise
        pytest.skip(str(error))
    yield store
    asyncio.run(store.end())


@pytest.fixture
def own_store(valkey: OwnStore) -> str:
    """Its address."""
    return valkey.settings.url


@pytest.fixture
def services(kafka_url: str, valkey: OwnStore) -> Services:
    """A bus that others use as well, and that store."""
    return Services(BusSettings(url=kafka_url), valkey.settings, own_store=valkey)


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[[dict[str, Any]], None]:
    """Takes one row of facts of a run of the campaign; the table is the session's."""
    return partial(record_property, "campaign")
