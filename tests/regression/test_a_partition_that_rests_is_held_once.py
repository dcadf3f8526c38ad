"""A store that keeps snapshots holds no second copy of a state that nothing is written to."""

from __future__ import annotations

import asyncio

import pytest
from fakes.snapshot_places import MemoryPlace

from headrace.feature_store import snapshotting
from headrace.feature_store.memory import MemoryStore
from headrace.feature_store.snapshots import Snapshots
from headrace.feature_store.snapshotting import SnapshottingStore
from headrace.schemas.protocols import CheckpointMeta, WriteOutcome
from headrace.schemas.settings import SnapshotSettings

KEY = "enrich/t/0"
FIELDS = {b"a": b"0" * 40, b"b": b"1"}


def meta(position: int) -> CheckpointMeta:
    return CheckpointMeta(
        position=position, layout="l", format=1, partitions=1, numerics="n", epoch=0, last=None
    )


@pytest.mark.parametrize("takeover", ["read", "rewritten"])
async def test_its_state_is_let_go_of_and_the_next_snapshot_is_whole(
    monkeypatch: pytest.MonkeyPatch, takeover: str
) -> None:
    """After a takeover nothing comes; then something does, and the snapshot has all of it."""
    monkeypatch.setattr(snapshotting, "HOLD_S", 0.0)
    inner = MemoryStore()
    kept = Snapshots(MemoryPlace(), "p", SnapshotSettings(), lambda: 1.0)
    store = SnapshottingStore(inner, kept, every_s=60.0)
    claim = await store.claim(KEY)
    first = inner if takeover == "read" else store
    await first.rewrite(KEY, claim=claim, meta=meta(0), fields=FIELDS.items())
    if takeover == "read":
        await store.read(KEY)
    assert store._followed[KEY].whole == list(FIELDS.items())
    await asyncio.sleep(0.01)
    assert store._followed[KEY].whole is None

    outcome = await store.write(
        KEY, claim=claim, base=0, meta=meta(1), changed=[(b"c", b"2")], dropped=[b"b"]
    )
    assert outcome is WriteOutcome.WRITTEN
    await asyncio.gather(*store._jobs)
    (one,) = kept.stored(KEY)
    assert dict(kept.read(one).fields) == {b"a": b"0" * 40, b"c": b"2"}


async def test_a_partition_that_is_at_work_is_not_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the takeover had in hand makes the first snapshot, without another look at the store."""
    inner = MemoryStore()
    kept = Snapshots(MemoryPlace(), "p", SnapshotSettings(), lambda: 1.0)
    store = SnapshottingStore(inner, kept, every_s=60.0)
    claim = await store.claim(KEY)
    await store.rewrite(KEY, claim=claim, meta=meta(0), fields=FIELDS.items())

    async def unread(key: str) -> None:
        raise AssertionError(f"{key} was read")

    monkeypatch.setattr(inner, "read", unread)
    await store.write(KEY, claim=claim, base=0, meta=meta(1), changed=[(b"c", b"2")], dropped=[])
    await asyncio.gather(*store._jobs)
    (one,) = kept.stored(KEY)
    assert dict(kept.read(one).fields) == {**FIELDS, b"c": b"2"}
