"""Real servers, and stores on them that are closed after the test."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headrace.feature_store.open import RedisStore, open_store
from headrace.schemas.settings import StoreSettings

Opener = Callable[..., Awaitable[RedisStore]]

_spec = importlib.util.spec_from_file_location(
    "feature_store_servers", Path(__file__).with_name("servers.py")
)
assert _spec is not None
assert _spec.loader is not None
_servers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_servers)

_numbers = itertools.count()


@pytest.fixture(scope="session")
def servers() -> ModuleType:
    """How to start servers of one's own."""
    return _servers


@pytest.fixture(scope="session")
def plain_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that all tests share; each uses its own pipeline name."""
    with _servers.plain(tmp_path_factory.mktemp("v")) as url:
        yield url


@pytest.fixture
def pipeline() -> str:
    return f"p{next(_numbers)}"


@pytest.fixture
async def opened(pipeline: str) -> AsyncIterator[Opener]:
    """Opens stores under this test's pipeline; keywords are settings."""
    stores: list[RedisStore] = []

    async def open_one(url: str, **settings: Any) -> RedisStore:
        store = await open_store(StoreSettings(url=url, **settings), pipeline)
        assert isinstance(store, RedisStore)
        stores.append(store)
        return store

    yield open_one
    for store in stores:
        await store.close()
