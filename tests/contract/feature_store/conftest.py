"""Every store that keeps the contracts: in memory, on one server (two ways), on a cluster."""

from __future__ import annotations

import importlib.util
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from headrace.feature_store.memory import MemoryStore
from headrace.feature_store.open import RedisStore, open_store
from headrace.feature_store.store import Store
from headrace.schemas.settings import StoreSettings

Opener = Callable[[], Awaitable[Store]]

_path = Path(__file__).parents[2] / "integration" / "feature_store" / "servers.py"
_spec = importlib.util.spec_from_file_location("feature_store_servers", _path)
assert _spec is not None
assert _spec.loader is not None
servers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(servers)


@pytest.fixture(scope="session")
def plain_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server in HEADRACE_TEST_REDIS, else one of our own."""
    if named := os.environ.get("HEADRACE_TEST_REDIS"):
        yield named
        return
    with servers.plain(tmp_path_factory.mktemp("v")) as url:
        yield url


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with servers.cluster(tmp_path_factory.mktemp("c")) as (url, _):
        yield url


@pytest.fixture(
    params=[
        "memory",
        pytest.param("server", marks=pytest.mark.integration),
        pytest.param("server without field expiry", marks=pytest.mark.integration),
        pytest.param("cluster", marks=pytest.mark.integration),
    ]
)
async def opener(request: pytest.FixtureRequest) -> AsyncIterator[Opener]:
    """Opens the same store again and again, as several workers do; empty at the start."""
    if request.param == "memory":
        memory = MemoryStore()

        async def same() -> Store:
            return memory

        yield same
        return
    url = request.getfixturevalue("cluster_url" if request.param == "cluster" else "plain_url")
    pipeline = f"test-{uuid.uuid4().hex[:12]}"
    opened: list[RedisStore] = []

    async def another() -> Store:
        store = await open_store(StoreSettings(url=url), pipeline)
        assert isinstance(store, RedisStore)
        if request.param == "server without field expiry":
            store = RedisStore(store._wire, pipeline, expires_fields=False)
        opened.append(store)
        return store

    yield another
    for store in opened:
        for keys in await store._wire.ask_each((b"KEYS", f"{{{pipeline}/*")):
            await store._wire.ask([(b"DEL", key) for key in keys])
        await store.close()
