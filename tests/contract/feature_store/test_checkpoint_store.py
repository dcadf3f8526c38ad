"""The contract of `CheckpointStore`, kept by every store; stores that break it are caught."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator

import pytest

from headrace.feature_store.memory import MemoryStore
from headrace.feature_store.store import Store
from headrace.schemas.batch import LastRecord
from headrace.schemas.protocols import CheckpointMeta, Fields, WriteOutcome

Opener = Callable[[], Awaitable[Store]]
KEY = "enrich/headrace.press.telemetry.v1/2"
WRITTEN, NOT_OWNER, ROLLED_BACK = WriteOutcome


def meta(position: int) -> CheckpointMeta:
    last = LastRecord(position - 1, 1_795_255_200_000, 0xFFFF_FFFF) if position else None
    return CheckpointMeta(
        position=position, layout="9f2c", format=1, partitions=4, numerics="n", epoch=1, last=last
    )


def state(count: int, value: bytes = b"v") -> dict[bytes, bytes]:
    return {b"f%d" % n: value for n in range(count)}


async def rewrite(
    store: Store, claim: int, position: int, fields: dict[bytes, bytes], key: str = KEY
) -> WriteOutcome:
    return await store.rewrite(key, claim=claim, meta=meta(position), fields=fields.items())


async def write(
    store: Store,
    claim: int,
    base: int,
    position: int,
    changed: dict[bytes, bytes],
    dropped: Iterable[bytes] = (),
) -> WriteOutcome:
    return await store.write(
        KEY, claim=claim, base=base, meta=meta(position), changed=changed.items(), dropped=dropped
    )


async def contents(store: Store, key: str = KEY) -> tuple[int, dict[bytes, bytes]] | None:
    """Position and fields; the snapshot must name each field once and carry the whole meta."""
    snapshot = await store.read(key)
    if snapshot is None:
        return None
    fields = dict(snapshot.fields)
    assert len(fields) == len(snapshot.fields)
    assert snapshot.meta == meta(snapshot.meta.position)
    return snapshot.meta.position, fields


async def test_nothing_is_there_at_first(opener: Opener) -> None:
    """A key never claimed has claim 0, no position and no checkpoint, and takes no writes."""
    store = await opener()
    assert await store.held(KEY) == (0, None)
    assert await store.read(KEY) is None
    assert await rewrite(store, 0, 5, state(1)) is NOT_OWNER
    assert await write(store, 0, 0, 5, state(1)) is NOT_OWNER
    assert await store.read(KEY) is None


async def test_claims_only_rise(opener: Opener) -> None:
    """Each claim is one higher, whoever makes it, and is seen by all."""
    first, second = await opener(), await opener()
    assert [await first.claim(KEY), await second.claim(KEY), await first.claim(KEY)] == [1, 2, 3]
    assert await second.held(KEY) == (3, None)
    assert await first.held("enrich/other/0") == (0, None)


async def test_claims_at_once_are_all_different(opener: Opener) -> None:
    """No two of many claims made at the same time are equal."""
    first, second = await opener(), await opener()
    claims = await asyncio.gather(*[s.claim(KEY) for s in (first, second) for _ in range(10)])
    assert sorted(claims) == list(range(1, 21))


async def test_what_is_written_is_read(opener: Opener) -> None:
    """A partition written whole and then changed reads back as the sum of both."""
    store = await opener()
    claim = await store.claim(KEY)
    assert await rewrite(store, claim, 10, state(5)) is WRITTEN
    assert await contents(store) == (10, state(5))
    assert await write(store, claim, 10, 17, {b"f1": b"new", b"g": b""}, [b"f0"]) is WRITTEN
    expected = state(5) | {b"f1": b"new", b"g": b""}
    del expected[b"f0"]
    assert await contents(await opener()) == (17, expected)
    assert await store.held(KEY) == (claim, 17)


async def test_a_delta_needs_a_checkpoint(opener: Opener) -> None:
    """A first write must be whole: a delta on nothing is answered ROLLED_BACK and not kept."""
    store = await opener()
    claim = await store.claim(KEY)
    assert await write(store, claim, 0, 5, state(1)) is ROLLED_BACK
    assert await store.held(KEY) == (claim, None)


async def test_a_lower_claim_is_refused(opener: Opener) -> None:
    """After a claim was raised the writes of the owner before it change nothing."""
    old, new = await opener(), await opener()
    low = await old.claim(KEY)
    await rewrite(old, low, 10, state(3))
    high = await new.claim(KEY)
    assert await write(old, low, 10, 20, state(3, b"zombie")) is NOT_OWNER
    assert await rewrite(old, low, 20, state(3, b"zombie")) is NOT_OWNER
    assert await contents(new) == (10, state(3))
    assert await write(new, high, 10, 20, state(3, b"new")) is WRITTEN
    assert await contents(new) == (20, state(3, b"new"))


async def test_a_claim_never_given_is_refused(opener: Opener) -> None:
    """A claim above the stored one (the store forgot it) does not write either."""
    store = await opener()
    claim = await store.claim(KEY)
    await rewrite(store, claim, 10, state(3))
    assert await write(store, claim + 1, 10, 20, state(3, b"x")) is NOT_OWNER
    assert await rewrite(store, claim + 1, 20, state(3, b"x")) is NOT_OWNER
    assert await contents(store) == (10, state(3))


@pytest.mark.parametrize("base", [9, 11, 0])
async def test_a_delta_on_another_position_is_refused(opener: Opener, base: int) -> None:
    """A delta that builds on a position the store is not at is answered ROLLED_BACK."""
    store = await opener()
    claim = await store.claim(KEY)
    await rewrite(store, claim, 10, state(3))
    assert await write(store, claim, base, 20, state(3, b"x"), [b"f0"]) is ROLLED_BACK
    assert await contents(store) == (10, state(3))


async def test_repeating_a_write_succeeds_and_changes_nothing(opener: Opener) -> None:
    """A write whose position is already stored under our claim had succeeded before."""
    store = await opener()
    claim = await store.claim(KEY)
    await rewrite(store, claim, 10, state(3))
    for _ in range(3):
        assert await write(store, claim, 10, 20, {b"f0": b"new"}, [b"f2"]) is WRITTEN
        assert await contents(store) == (20, {b"f0": b"new", b"f1": b"v"})
    assert await write(store, claim, 10, 20, {b"f1": b"other"}) is WRITTEN
    assert await contents(store) == (20, {b"f0": b"new", b"f1": b"v"})


async def test_a_write_may_keep_the_position(opener: Opener) -> None:
    """A delta that moves no position is applied, and again when repeated."""
    store = await opener()
    claim = await store.claim(KEY)
    await rewrite(store, claim, 10, state(2))
    for _ in range(2):
        assert await write(store, claim, 10, 10, {b"f0": b"new"}) is WRITTEN
    assert await contents(store) == (10, {b"f0": b"new", b"f1": b"v"})


async def test_a_field_dropped_and_changed_is_kept(opener: Opener) -> None:
    """Fields are dropped before fields are set; dropping what is not there is right."""
    store = await opener()
    claim = await store.claim(KEY)
    await rewrite(store, claim, 10, state(2))
    assert await write(store, claim, 10, 11, {b"f0": b"new"}, [b"f0", b"nothing"]) is WRITTEN
    assert await contents(store) == (11, {b"f0": b"new", b"f1": b"v"})


async def test_every_field_may_be_dropped(opener: Opener) -> None:
    """An empty state is a checkpoint like any other."""
    store = await opener()
    claim = await store.claim(KEY)
    await rewrite(store, claim, 0, {})
    assert await contents(store) == (0, {})
    assert await write(store, claim, 0, 1, state(2)) is WRITTEN
    assert await write(store, claim, 1, 2, {}, state(2)) is WRITTEN
    assert await contents(store) == (2, {})
    assert await write(store, claim, 2, 3, {b"x": b"y"}) is WRITTEN
    assert await contents(store) == (3, {b"x": b"y"})


async def test_any_bytes_are_a_field(opener: Opener) -> None:
    """Names and values of any bytes and sizes come back as they were."""
    store = await opener()
    claim = await store.claim(KEY)
    odd = {b"": b"", bytes(range(256)): b"\r\n\0", b"f 1": b"x" * 700_000, b"*3": b"$-1"}
    assert await rewrite(store, claim, 1, odd) is WRITTEN
    assert await contents(store) == (1, odd)
    assert await write(store, claim, 1, 2, {name: name for name in odd}) is WRITTEN
    assert await contents(store) == (2, {name: name for name in odd})


async def test_large_deltas_and_states(opener: Opener) -> None:
    """Thousands of fields are written, changed and dropped in one call each."""
    store = await opener()
    claim = await store.claim(KEY)
    whole = state(12_345, b"x" * 60)
    assert await rewrite(store, claim, 1, whole) is WRITTEN
    assert await contents(store) == (1, whole)
    changed = {b"f%d" % n: b"y%d" % n for n in range(9_000, 12_001)}
    dropped = [b"f%d" % n for n in range(9_000)]
    assert await write(store, claim, 1, 2, changed, dropped) is WRITTEN
    expected = {name: v for name, v in (whole | changed).items() if int(name[1:]) >= 9_000}
    assert await contents(store) == (2, expected)


async def test_writing_whole_replaces_everything(opener: Opener) -> None:
    """After a rewrite nothing of the state before it is left, time after time."""
    store = await opener()
    claim = await store.claim(KEY)
    for turn in range(4):
        fields = {b"t%d-%d" % (turn, n): b"v" for n in range(3)}
        assert await rewrite(store, claim, 10 - turn, fields) is WRITTEN
        assert await contents(store) == (10 - turn, fields)
        assert await write(store, claim, 10 - turn, 50 + turn, {b"d": b"1"}) is WRITTEN
        assert await contents(store) == (50 + turn, fields | {b"d": b"1"})


async def test_an_interrupted_rewrite_leaves_the_checkpoint_before_it(opener: Opener) -> None:
    """A rewrite that fails half-way changes nothing, and the next one carries none of it."""
    store = await opener()
    claim = await store.claim(KEY)
    await rewrite(store, claim, 10, state(2))

    def breaks() -> Iterator[tuple[bytes, bytes]]:
        for n in range(5_000):
            yield b"half%d" % n, b"x"
        raise RuntimeError("cut")

    with pytest.raises(RuntimeError, match="cut"):
        await store.rewrite(KEY, claim=claim, meta=meta(99), fields=breaks())
    assert await contents(store) == (10, state(2))
    assert await write(store, claim, 10, 11, {b"d": b"1"}) is WRITTEN
    assert await contents(store) == (11, state(2) | {b"d": b"1"})
    assert await rewrite(store, claim, 12, state(3)) is WRITTEN
    assert await contents(store) == (12, state(3))


async def test_keys_do_not_mix(opener: Opener) -> None:
    """Checkpoints of two partitions are two."""
    store = await opener()
    for number, key in enumerate(["enrich/t/1", "enrich/t/11", "serve/t/1"]):
        await rewrite(store, await store.claim(key), number, state(number), key)
    for number, key in enumerate(["enrich/t/1", "enrich/t/11", "serve/t/1"]):
        assert await contents(store, key) == (number, state(number))


async def test_of_two_owners_at_once_only_the_higher_claim_writes(opener: Opener) -> None:
    """While claims rise and old owners go on writing, only the newest owner's writes are kept."""
    old, new = await opener(), await opener()
    low = await old.claim(KEY)
    await rewrite(old, low, 0, state(2))
    for turn in range(1, 11):
        zombie = asyncio.create_task(rewrite(old, low, -turn, state(3_000, b"zombie")))
        await asyncio.sleep(turn * 2e-4)
        high = await new.claim(KEY)
        assert await rewrite(new, high, turn, state(2, b"%d" % turn)) is WRITTEN
        outcome = await zombie
        assert outcome in (WRITTEN, NOT_OWNER)
        assert await contents(new) == (turn, state(2, b"%d" % turn))
        assert await write(old, low, turn, turn + 1, state(1, b"zombie")) is NOT_OWNER
        low = high
        old, new = new, old


async def test_a_cancelled_write_happened_or_not(opener: Opener) -> None:
    """A write cancelled at any point is whole or absent, and repeating it is right."""
    store = await opener()
    claim = await store.claim(KEY)
    await rewrite(store, claim, 0, state(300))
    for turn in range(30):
        after = state(300, b"%d" % turn)
        before = await contents(store)
        call = asyncio.create_task(write(store, claim, turn, turn + 1, after))
        await asyncio.sleep(turn * 5e-5)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert await contents(store) in (before, (turn + 1, after))
        assert await write(store, claim, turn, turn + 1, after) is WRITTEN
        assert await contents(store) == (turn + 1, after)


async def test_a_cancelled_rewrite_happened_or_not(opener: Opener) -> None:
    """A rewrite cancelled at any point is whole or absent; the next one and deltas are right."""
    store = await opener()
    claim = await store.claim(KEY)
    current = (0, state(2))
    await rewrite(store, claim, *current)
    for turn in range(1, 21):
        after = (turn, state(3_000, b"%d" % turn))
        call = asyncio.create_task(rewrite(store, claim, *after))
        await asyncio.sleep(turn * 4e-4)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        found, outcome = None, ROLLED_BACK
        while outcome is ROLLED_BACK and found != after:  # it may still land behind the first look
            found = await contents(store)
            assert found in (current, after)
            assert found is not None
            outcome = await write(store, claim, found[0], 100 + turn, {b"d": b"1"})
        assert outcome is WRITTEN
        current = (100 + turn, found[1] | {b"d": b"1"})
        assert await contents(store) == current


class IgnoresBase(MemoryStore):
    """Broken: builds on whatever position is stored."""

    async def write(
        self,
        key: str,
        *,
        claim: int,
        base: int,
        meta: CheckpointMeta,
        changed: Fields,
        dropped: Iterable[bytes],
    ) -> WriteOutcome:
        _, held = await self.held(key)
        return await super().write(
            key, claim=claim, base=held or 0, meta=meta, changed=changed, dropped=dropped
        )


class IgnoresClaim(MemoryStore):
    """Broken: lets any owner write."""

    async def write(
        self,
        key: str,
        *,
        claim: int,
        base: int,
        meta: CheckpointMeta,
        changed: Fields,
        dropped: Iterable[bytes],
    ) -> WriteOutcome:
        claim, _ = await self.held(key)
        return await super().write(
            key, claim=claim, base=base, meta=meta, changed=changed, dropped=dropped
        )


class RewritesInPlace(MemoryStore):
    """Broken: a rewrite clears the checkpoint first and fills it field by field."""

    async def rewrite(
        self, key: str, *, claim: int, meta: CheckpointMeta, fields: Fields
    ) -> WriteOutcome:
        outcome = await super().rewrite(key, claim=claim, meta=meta, fields=())
        if outcome is WRITTEN:
            for name, value in fields:
                self._checkpoints[key].fields[name] = value
        return outcome


class RefusesRepeats(MemoryStore):
    """Broken: takes its own earlier write for a rollback."""

    async def write(
        self,
        key: str,
        *,
        claim: int,
        base: int,
        meta: CheckpointMeta,
        changed: Fields,
        dropped: Iterable[bytes],
    ) -> WriteOutcome:
        if (await self.held(key))[1] != base:
            return ROLLED_BACK
        return await super().write(
            key, claim=claim, base=base, meta=meta, changed=changed, dropped=dropped
        )


@pytest.mark.parametrize(
    ("broken", "claim"),
    [
        (IgnoresBase, test_repeating_a_write_succeeds_and_changes_nothing),
        (IgnoresClaim, test_a_lower_claim_is_refused),
        (RewritesInPlace, test_an_interrupted_rewrite_leaves_the_checkpoint_before_it),
        (RefusesRepeats, test_a_cancelled_write_happened_or_not),
    ],
)
async def test_the_suite_catches_a_broken_store(
    broken: type[MemoryStore], claim: Callable[[Opener], Awaitable[None]]
) -> None:
    """Each broken store fails the claim it breaks."""
    store = broken()

    async def opener() -> Store:
        return store

    with pytest.raises(AssertionError):
        await claim(opener)


async def test_the_suite_catches_a_store_that_ignores_the_base() -> None:
    """The claim about other positions fails on the store that builds on any."""
    store = IgnoresBase()

    async def opener() -> Store:
        return store

    with pytest.raises(AssertionError):
        await test_a_delta_on_another_position_is_refused(opener, 9)
