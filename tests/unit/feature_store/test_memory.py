"""What only the store in memory has: its clock and its bound."""

from __future__ import annotations

import numpy as np

from headrace.feature_store.memory import MemoryStore
from headrace.schemas.protocols import OnlineRows


def row(entity: str) -> OnlineRows:
    one = np.array([1], np.int64)
    return OnlineRows("v", [entity], one, one, np.ones((1, 1)))


async def test_expired_rows_do_not_pile_up() -> None:
    """A stream of ever new entities keeps only those within their time to live."""
    clock = [0.0]
    store = MemoryStore(now=lambda: clock[0])
    for number in range(1_000):
        clock[0] = float(number)
        await store.write_rows(row(f"e{number}"), epoch=0, ttl_s=10.0)
        await store.write_rows(row("always"), epoch=0, ttl_s=10.0)
    assert len(store._views["v"]) <= 12


async def test_rows_expire_by_the_clock_given() -> None:
    """A row is gone at exactly its time to live after it was written."""
    clock = [0.0]
    store = MemoryStore(now=lambda: clock[0])
    await store.write_rows(row("a"), epoch=0, ttl_s=10.0)
    for time_s, found in [(9.9, True), (10.0, False)]:
        clock[0] = time_s
        answer = await store.read_rows("v", ["a"], width=1, ttl_s=1e9, now_ms=1)
        assert answer.found[0] == found
    assert not await store.delete_entity("v", "a")
