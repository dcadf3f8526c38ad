"""Every store that keeps the contracts: in memory, on one server (two ways), on a cluster."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from fakes.services import without
from fakes.snapshot_places import MemoryPlace

from headrace.feature_store.memory import MemoryStore
from headrace.feature_store.open import RedisStore, open_store
from headrace.feature_store.snapshot_bucket import SnapshotBucket
from headrace.feature_store.snapshots import Snapshots
from headrace.feature_store.snapshotting import SnapshottingStore
from headrace.feature_store.store import Store
from headrace.schemas.settings import SnapshotSettings, StoreSettings

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
        "memory with snapshots",
        pytest.param("server", marks=pytest.mark.integration),
        pytest.param("server without field expiry", marks=pytest.mark.integration),
        pytest.param("cluster", marks=pytest.mark.integration),
    ]
)
async def opener(request: pytest.FixtureRequest) -> AsyncIterator[Opener]:
    """Opens the same store again and again, as several workers do; empty at the start."""
    if request.param.startswith("memory"):
        memory: Store = MemoryStore()
        if request.param == "memory with snapshots":
            kept = Snapshots(MemoryPlace(), "p", SnapshotSettings(), lambda: 0.0)
            memory = SnapshottingStore(memory, kept, every_s=1e-9)

        async def same() -> Store:
            return memory

        yield same
        await memory.close()
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


@pytest.fixture(scope="session")
def object_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Endpoint of an S3-compatible server: the one in HEADRACE_TEST_S3, else one of our own."""
    if named := os.environ.get("HEADRACE_TEST_S3"):
        yield named
        return
    program = Path(__file__).parents[3] / "build" / "s3" / "bin" / "moto_server"
    if not program.exists():
        without("there is no object storage to test against; run: sh .ci/s3")
    port = servers.free_port()
    said = tmp_path_factory.mktemp("s3") / "said"
    with said.open("wb") as output:
        process = subprocess.Popen(
            [program, "-H", "127.0.0.1", "-p", str(port)], stdout=output, stderr=output
        )
    try:
        _until_it_listens(process, port, said)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _until_it_listens(process: subprocess.Popen[bytes], port: int, said: Path) -> None:
    deadline = time.monotonic() + 60
    while not servers._listens(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"object storage did not start: {said.read_text()[-500:]}")
        time.sleep(0.05)


@pytest.fixture
def bucket(object_storage: str, monkeypatch: pytest.MonkeyPatch) -> SnapshotBucket:
    """An empty bucket there, reached as the environment says."""
    for name, value in {
        "AWS_ENDPOINT_URL": object_storage,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"b-{uuid.uuid4().hex[:12]}"
    with urllib.request.urlopen(
        urllib.request.Request(f"{object_storage}/{name}", method="PUT"), timeout=10
    ):
        return SnapshotBucket(f"s3://{name}/snapshots")
