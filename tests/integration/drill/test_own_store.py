"""What a drill does to its own store bites, and is over after the repair."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio as aioredis
from fakes.services import without
from redis.exceptions import RedisError

from headrace.schemas.errors import HeadraceError, LocalServiceError
from headrace.streams.drill.own_store import OwnStore
from headrace.streams.drill.small_disk import SmallDisk

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DOWN_S = 0.6


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[OwnStore]:
    """A store of the drill's own, which holds one key."""
    found = OwnStore(tmp_path)
    try:
        await found.start()
        await found.relay()
    except HeadraceError as error:
        without(str(error))
    assert await written(found, "before") is None
    yield found
    await found.end()


async def written(store: OwnStore, key: str) -> str | None:
    """Write a key through the proxy; how that was refused, None where it was not."""
    async with aioredis.from_url(store.settings.url, socket_timeout=0.2) as client:
        try:
            await client.set(key, "1")
        except (RedisError, OSError) as error:
            return f"{type(error).__name__}: {error}"
    return None


async def keys(store: OwnStore) -> set[bytes]:
    async with aioredis.from_url(store.settings.url) as client:
        return set(await client.keys())


@pytest.mark.parametrize(
    ("fault", "refusal"),
    [("read_only", "ReadOnlyError"), ("out_of_memory", "OutOfMemoryError"),
     ("pause", "TimeoutError"), ("restart", "Error")],
)  # fmt: skip
async def test_a_fault_is_refused_and_repaired(fault, refusal, store) -> None:
    """While it lasts a write fails in its own way; afterwards everything is as before."""
    striking = asyncio.create_task(getattr(store, fault)(DOWN_S))
    said = None
    while said is None and not striking.done():
        said = await written(store, "meanwhile")
    await striking

    assert said is not None
    assert refusal in said
    assert await written(store, "after") is None
    assert {b"before", b"after"} <= await keys(store)


async def test_a_stale_replica_lacks_what_came_after_it_was_cut_off(store) -> None:
    """It has what was there before, and takes writes."""
    promoting = asyncio.create_task(store.promote_stale(2 * DOWN_S))
    number, acknowledged = 0, []
    while not promoting.done():
        number += 1
        if await written(store, f"k{number}") is None:
            acknowledged.append(f"k{number}".encode())
    await promoting
    found = await keys(store)

    assert b"before" in found
    assert set(acknowledged) - found
    assert await written(store, "after") is None
    await store.restart(0)
    assert b"before" in await keys(store)


async def test_an_emptied_store_is_empty(store) -> None:
    """Whatever was in it."""
    await store.empty()

    assert await keys(store) == set()


async def test_a_store_without_a_small_disk_is_not_filled(store) -> None:
    """One line, and nothing is done."""
    with pytest.raises(LocalServiceError, match="no disk of its own"):
        await store.fill_disk(0)


async def test_its_end_ends_the_server(store) -> None:
    """And whoever asks is refused."""
    await store.end()

    assert await written(store, "late") is not None


class Unfilled(SmallDisk):
    """A disk that is as it was: the faults of full ones are the drill's own tests."""

    def fill(self) -> None:
        """Nothing."""

    def free(self) -> None:
        """Nothing."""


async def test_after_a_full_disk_its_file_is_written_anew(tmp_path) -> None:
    """What was cut off in it may be anywhere."""
    store = OwnStore(tmp_path, Unfilled(tmp_path, 1))
    try:
        await store.start()
    except HeadraceError as error:
        without(str(error))
    try:
        await store.relay()
        assert await written(store, "before") is None
        [manifest] = tmp_path.rglob("*.manifest")
        old = manifest.read_text("utf-8")
        await store.fill_disk(0)

        assert manifest.read_text("utf-8") != old
        await store.restart(0)
        assert await keys(store) == {b"before"}
    finally:
        await store.end()
