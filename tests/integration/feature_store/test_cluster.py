"""What a real cluster does to the stores: slots that move, nodes that die."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from headrace.feature_store.buckets import bucket_of, slot_of
from headrace.feature_store.open import RedisStore
from headrace.schemas.errors import StoreUnavailableError
from headrace.schemas.protocols import CheckpointMeta, OnlineRows, WriteOutcome

pytestmark = [pytest.mark.integration, pytest.mark.slow]
Opener = Callable[..., Awaitable[RedisStore]]
KEY = "enrich/t/0"


def meta(position: int) -> CheckpointMeta:
    return CheckpointMeta(
        position=position, layout="9", format=1, partitions=4, numerics="n", epoch=0, last=None
    )


def rows(names: list[str], time_ms: int) -> OnlineRows:
    ones = np.ones(len(names), np.int64)
    return OnlineRows("v", names, ones * time_ms, ones, np.full((len(names), 2), float(time_ms)))


async def test_slots_that_move_are_followed(
    tmp_path: Path, servers: ModuleType, opened: Opener, pipeline: str
) -> None:
    """Keys being moved (ASK), moved (MOVED) and left behind are written and read all the same."""
    names = [f"e{n}" for n in range(500)]
    slots = {slot_of(f"{{{pipeline}/v/{bucket_of(name)}}}".encode()) for name in names}
    moving = [*sorted(slots)[::25], slot_of(f"{{{pipeline}/{KEY}}}".encode())]
    with servers.cluster(tmp_path) as (url, ports):
        store = await opened(url)
        by_port = {port: servers.resp(port, "CLUSTER", "MYID").split()[1] for port in ports}
        claim = await store.claim(KEY)
        await store.write_rows(rows(names, 1), epoch=0, ttl_s=60)
        await store.rewrite(KEY, claim=claim, meta=meta(1), fields=[(b"f", b"1")])
        for number, slot in enumerate(moving):
            owner, target = _owner(servers, ports, slot), ports[number % 3]
            if owner == target:
                continue
            servers.resp(target, "CLUSTER", "SETSLOT", str(slot), "IMPORTING", by_port[owner])
            servers.resp(owner, "CLUSTER", "SETSLOT", str(slot), "MIGRATING", by_port[target])
            keys = servers.resp(owner, "CLUSTER", "GETKEYSINSLOT", str(slot), "10").split("\r\n")
            found = [key for key in keys if key.startswith("{")]
            if found:
                told = servers.resp(
                    owner, "MIGRATE", "127.0.0.1", str(target), "", "0", "5000", "KEYS", *found
                )
                assert told == "+OK\r\n", (told, keys)
            if number % 2:  # every other slot stays half-way: its keys are gone, it is not
                for port in (target, owner):
                    told = servers.resp(
                        port, "CLUSTER", "SETSLOT", str(slot), "NODE", by_port[target]
                    )
                    assert told == "+OK\r\n", (told, keys)
                await _agreed(servers, ports)
        assert (await _read(store, names, 1)) == 500
        assert await store.write_rows(rows(names, 2), epoch=0, ttl_s=60) == 500
        assert await store.write_rows(rows(names, 1), epoch=0, ttl_s=60) == 0
        assert (await _read(store, names, 2)) == 500
        assert (await store.held(KEY)) == (claim, 1)


async def test_a_dead_node_is_a_retryable_error(
    tmp_path: Path, servers: ModuleType, opened: Opener
) -> None:
    """Without one of its nodes the cluster is an error in one line; other nodes go on."""
    with servers.cluster(tmp_path) as (url, ports):
        store = await opened(url)
        info = await store.server_info()
        assert ", 3 nodes," in info.text
        names = [f"e{n}" for n in range(200)]
        await store.write_rows(rows(names, 1), epoch=0, ttl_s=60)
        servers.resp(ports[1], "SHUTDOWN", "NOSAVE")
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match=r"^the (store|cluster) at [^\n]+$"):
                await store.write_rows(rows(names, 2), epoch=0, ttl_s=60)
        alive = [key for key in (f"k{n}" for n in range(50)) if await _claims(store, key)]
        assert 10 < len(alive) < 50
        first = alive[0]
        written = await store.rewrite(first, claim=1, meta=meta(3), fields=[(b"f", b"1")])
        assert written is WriteOutcome.WRITTEN


async def _claims(store: RedisStore, key: str) -> bool:
    try:
        return await store.claim(key) == 1
    except StoreUnavailableError:
        return False


async def _read(store: RedisStore, names: list[str], value: float) -> int:
    answer = await store.read_rows("v", names, width=2, ttl_s=60, now_ms=1)
    return int((answer.found & (answer.values[:, 0] == value)).sum())


async def _agreed(servers: ModuleType, ports: list[int]) -> None:
    """Wait until every node names the same owner of each slot, and the same epochs.

    A node that takes a slot before it has heard of the others' last moves may take it under an
    older epoch than its owner's, and loses it again at the owner's next ping: nobody serves it.
    """
    for _ in range(400):
        tables = {frozenset(_served(servers.resp(port, "CLUSTER", "NODES"))) for port in ports}
        if len(tables) == 1:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the nodes did not agree on their slots within 8 s")


def _served(nodes: str) -> list[tuple[str, ...]]:
    """Id, epoch and slots of each node in an answer to CLUSTER NODES, moves left out."""
    rows = [line.split() for line in nodes.splitlines() if "master" in line]
    return [(r[0], r[6], *(slots for slots in r[8:] if "[" not in slots)) for r in rows]


def _owner(servers: ModuleType, ports: list[int], slot: int) -> int:
    for port in ports:
        for line in servers.resp(port, "CLUSTER", "NODES").splitlines():
            if "myself" in line:
                for part in line.split()[8:]:
                    first, _, last = part.partition("-")
                    if first.isdigit() and int(first) <= slot <= int(last or first):
                        return port
    raise AssertionError(f"nobody serves slot {slot}")
