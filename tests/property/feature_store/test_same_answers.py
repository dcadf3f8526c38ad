"""Whatever is done, and in whatever order, memory and the server give the same answers."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.feature_store.memory import MemoryStore
from headrace.feature_store.open import RedisStore, open_store
from headrace.feature_store.store import Store
from headrace.schemas.protocols import CheckpointMeta, OnlineRows
from headrace.schemas.settings import StoreSettings

pytestmark = pytest.mark.integration
_runs = itertools.count()

SMALL = st.integers(-3, 3)
ENTITY = st.sampled_from(["", "a", "b", "c d", "é", "{x}", "y" * 40])
FIELD = st.sampled_from([b"", b"f", b"g", b"\xff\0", b"12"])


@dataclass(frozen=True)
class WriteRows:
    rows: dict[str, tuple[int, int]]
    width: int
    epoch: int
    value: float

    async def on(self, store: Store) -> Any:
        orders = np.array(list(self.rows.values()), np.int64).reshape(-1, 2)
        values = np.full((len(self.rows), self.width), self.value)
        rows = OnlineRows("v", list(self.rows), orders[:, 0], orders[:, 1], values)
        return await store.write_rows(rows, epoch=self.epoch, ttl_s=1e6)


@dataclass(frozen=True)
class ReadRows:
    entities: list[str]
    width: int
    ttl_s: float
    now_ms: int

    async def on(self, store: Store) -> Any:
        answer = await store.read_rows(
            "v", self.entities, width=self.width, ttl_s=self.ttl_s, now_ms=self.now_ms
        )
        return (
            answer.found.tolist(),
            answer.event_times_ms.tolist(),
            answer.values.shape,
            answer.values.tobytes(),
        )


@dataclass(frozen=True)
class DeleteEntity:
    entity: str

    async def on(self, store: Store) -> Any:
        return await store.delete_entity("v", self.entity)


@dataclass(frozen=True)
class Claim:
    async def on(self, store: Store) -> Any:
        return await store.claim("k"), await store.held("k")


@dataclass(frozen=True)
class Write:
    claims_ago: int
    base_off: int
    step: int
    changed: dict[bytes, bytes]
    dropped: list[bytes]
    whole: bool

    async def on(self, store: Store) -> Any:
        claim, held = await store.held("k")
        base = (held or 0) + self.base_off
        meta = CheckpointMeta(
            position=max(0, base + self.step), layout="x", format=1, partitions=2, numerics="n",
            epoch=0, last=None,
        )  # fmt: skip
        claim -= self.claims_ago
        if self.whole:
            outcome = await store.rewrite("k", claim=claim, meta=meta, fields=self.changed.items())
        else:
            outcome = await store.write(
                "k", claim=claim, base=base, meta=meta, changed=self.changed.items(),
                dropped=self.dropped,
            )  # fmt: skip
        snapshot = await store.read("k")
        found = snapshot and (snapshot.meta, sorted(snapshot.fields))
        return outcome, await store.held("k"), found


OPERATION = st.one_of(
    st.builds(
        WriteRows,
        rows=st.dictionaries(ENTITY, st.tuples(SMALL, SMALL), max_size=5),
        width=st.integers(0, 2),
        epoch=st.integers(0, 2),
        value=st.floats(),
    ),
    st.builds(
        ReadRows,
        entities=st.lists(ENTITY, max_size=6),
        width=st.integers(0, 2),
        ttl_s=st.sampled_from([0.001, 0.002, 1e6]),
        now_ms=SMALL,
    ),
    st.builds(DeleteEntity, ENTITY),
    st.builds(Claim),
    st.builds(
        Write,
        claims_ago=st.sampled_from([0, 0, 0, 0, 1, -1]),
        base_off=st.sampled_from([0, 0, 0, 0, 1, -1]),
        step=st.integers(0, 2),
        changed=st.dictionaries(FIELD, st.binary(max_size=5), max_size=4),
        dropped=st.lists(FIELD, max_size=3),
        whole=st.booleans(),
    ),
)


@pytest.mark.parametrize("expires_fields", [True, False])
@settings(max_examples=150, deadline=None)
@given(operations=st.lists(OPERATION, max_size=25))
def test_memory_and_server_answer_alike(
    plain_url: str, expires_fields: bool, operations: list[Any]
) -> None:
    """Every answer to every operation of a random sequence is equal, floats to the bit."""

    async def compare() -> None:
        memory, opened = MemoryStore(), await open_store(StoreSettings(url=plain_url), "unused")
        assert isinstance(opened, RedisStore)
        server = RedisStore(opened._wire, f"p{next(_runs)}", expires_fields=expires_fields)
        try:
            for operation in operations:
                assert await operation.on(memory) == await operation.on(server)
        finally:
            await server.close()

    asyncio.run(compare())
