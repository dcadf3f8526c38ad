"""A snapshot is the checkpoint of its position to the bit, or it is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from fakes.snapshot_places import MemoryPlace
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.feature_store.memory import MemoryStore
from headrace.feature_store.snapshot_file import SnapshotHead, decode_snapshot, encode_snapshot
from headrace.feature_store.snapshots import Snapshots, merged
from headrace.feature_store.snapshotting import SnapshottingStore, _Changes
from headrace.schemas.batch import LastRecord
from headrace.schemas.protocols import CheckpointMeta, WriteOutcome
from headrace.schemas.settings import SnapshotSettings

KEY = "enrich/t/0"
names = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])
states = st.dictionaries(st.binary(max_size=12), st.binary(max_size=40), max_size=12)
writes = st.lists(
    st.tuples(
        st.dictionaries(names, st.binary(max_size=4), max_size=4),
        st.lists(names, max_size=3),
        st.sampled_from(
            ["", "begin", "snapshot", "snapshot", "damage", "remove", "rewrite", "rest"]
        ),
    ),
    max_size=15,
)


def meta(position: int) -> CheckpointMeta:
    return CheckpointMeta(
        position=position, layout="l", format=1, partitions=1, numerics="n", epoch=0,
        last=LastRecord(position, 1, 2), rebuilt=True,
    )  # fmt: skip


def snapshot(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    head = SnapshotHead(pipeline="p", key=KEY, created_ms=5, meta=meta(3))
    return b"".join(encode_snapshot(head, fields))


@given(state=states, size=st.integers(1, 50))
def test_a_snapshot_comes_back_however_it_is_cut(state, size) -> None:
    """Head and fields, from chunks of any size."""
    content = snapshot(state.items())
    chunks = [content[at : at + size] for at in range(0, len(content), size)]
    head, fields = decode_snapshot(chunks)
    assert (head.meta, dict(fields)) == (meta(3), state)


@given(state=states, data=st.data())
def test_any_damage_is_noticed(state, data) -> None:
    """One changed byte anywhere, any cut, or more than there was."""
    content = snapshot(state.items())
    at = data.draw(st.integers(0, len(content) - 1))
    flipped = bytearray(content)
    flipped[at] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(flipped), content[:at], content + b"\0"):
        with pytest.raises(ValueError):
            list(decode_snapshot([damaged])[1])


@given(base=states, steps=st.lists(st.tuples(states, st.sets(st.binary(max_size=12)))))
def test_changes_on_a_base_are_the_writes_one_by_one(base, steps) -> None:
    """Many writes remembered as one are the same state as all of them in turn."""
    changes, expected = _Changes(), dict(base)
    for changed, dropped in steps:
        changes.add(list(changed.items()), dropped)
        for name in dropped:
            expected.pop(name, None)
        expected.update(changed)
    found = list(merged(base.items(), changes.changed, changes.dropped))
    assert len(found) == len(dict(found))
    assert dict(found) == expected


def test_only_what_is_remembered_counts():
    """A device that is written again and again takes the place of one value."""
    changes = _Changes()
    for turn in range(100):
        changes.add([(b"%d" % n, bytes([turn]) * 10) for n in range(5)], [])
    assert changes.size == 50
    changes.add([], [b"0"])
    assert changes.size == 40


class Worker:
    """Writes a checkpoint, remembers what it was at each position, and damages what is kept."""

    def __init__(self) -> None:
        self.place, self.clock = MemoryPlace(), 0.0
        bounds = SnapshotSettings(keep=100, every_s=1e-6)
        self.kept = Snapshots(self.place, "p", bounds, lambda: self.clock)
        self.inner = MemoryStore()
        self.store = SnapshottingStore(
            self.inner, self.kept, every_s=10.0, monotonic=lambda: self.clock
        )
        self.expected: dict[int, dict[bytes, bytes]] = {}

    async def rewrite(self, at: int, fields: dict[bytes, bytes]) -> None:
        await self.store.rewrite(KEY, claim=1, meta=meta(at), fields=fields.items())
        self.expected[at] = fields

    async def write(self, at: int, changed: dict[bytes, bytes], dropped: list[bytes]) -> None:
        outcome = await self.store.write(
            KEY, claim=1, base=at - 1, meta=meta(at), changed=changed.items(), dropped=dropped
        )
        assert outcome is WriteOutcome.WRITTEN
        found = await self.inner.read(KEY)
        assert found is not None
        self.expected[at] = dict(found.fields)

    def befall(self, what: str) -> None:
        self.clock += 20.0 if what in ("snapshot", "begin") else 1.0
        if what == "damage":
            self.place.kept = {name: content[:-1] for name, content in self.place.kept.items()}
        elif what == "remove":
            self.place.kept.clear()
        elif what == "rest":
            self.store._followed[KEY].rest()

    def check(self, *, damaged: bool) -> None:
        """Everything that can be read is what it says."""
        for one in self.kept.stored(KEY):
            try:
                read = self.kept.read(one)
            except ValueError:
                assert damaged
                continue
            assert read.meta == meta(one.position)
            assert dict(read.fields) == self.expected[one.position]
            assert len(read.fields) == len(dict(read.fields))


@given(plan=writes)
@settings(max_examples=300, deadline=None)
def test_every_snapshot_is_the_checkpoint_of_its_position(plan) -> None:
    """Whatever is written, damaged or removed in between: what can be read is right."""

    async def run() -> None:
        worker = Worker()
        await worker.store.claim(KEY)
        await worker.rewrite(0, {b"a": b"0"})
        for at, (changed, dropped, then) in enumerate(plan, start=1):
            worker.befall(then)
            if then == "rewrite":
                await worker.rewrite(at, {**changed, b"whole": b"1"})
                continue
            await worker.write(at, changed, dropped)
            if then == "snapshot":
                await asyncio.gather(*worker.store._jobs)
        await worker.store.close()
        befell = {then for _, _, then in plan}
        worker.check(damaged="damage" in befell)
        if not {"damage", "remove", "begin"} & befell and plan and plan[-1][2] == "snapshot":
            assert worker.kept.stored(KEY)[0].position == len(plan)

    asyncio.run(run())
