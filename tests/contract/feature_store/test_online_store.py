"""The contract of `OnlineStore`, kept by every store; and stores that break it and are caught."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import pytest

from headrace.feature_store.memory import MemoryStore
from headrace.feature_store.store import Store
from headrace.schemas.errors import FatalError
from headrace.schemas.protocols import OnlineAnswer, OnlineRows

Opener = Callable[[], Awaitable[Store]]
T0 = 1_795_255_200_000
DAY_S = 86_400.0


def rows(
    entities: Sequence[str], times: Sequence[int], offsets: Sequence[int], values: object
) -> OnlineRows:
    table = np.asarray(values, np.float64)
    return OnlineRows(
        "view", list(entities), np.array(times, np.int64), np.array(offsets, np.int64), table
    )


def one(time_ms: int, offset: int, value: float, entity: str = "a") -> OnlineRows:
    return rows([entity], [time_ms], [offset], [[value]])


async def read(store: Store, *entities: str, now_ms: int = T0, width: int = 1) -> OnlineAnswer:
    return await store.read_rows("view", entities, width=width, ttl_s=DAY_S, now_ms=now_ms)


async def value(store: Store, entity: str = "a") -> float:
    return float((await read(store, entity)).values[0, 0])


async def test_rows_come_back_bit_for_bit(opener: Opener) -> None:
    """Every float64 is read back with the bits it was written with, beside its event time."""
    store = await opener()
    special = np.array([[0.0, -0.0, np.inf], [-np.inf, np.nan, 5e-324], [1e308, 0.1, 1 / 3]])
    await store.write_rows(rows("xyz", [T0 - 1, T0, T0 - 2], [1, 2, 3], special), epoch=0, ttl_s=9)
    answer = await read(store, "z", "x", "y", width=3)
    assert answer.values.tobytes() == special[[2, 0, 1]].tobytes()
    assert answer.event_times_ms.tolist() == [T0 - 2, T0 - 1, T0]
    assert answer.found.tolist() == [True, True, True]


async def test_what_was_never_written_is_not_found(opener: Opener) -> None:
    """An unknown entity among known ones has no time and NaN for values."""
    store = await opener()
    await store.write_rows(one(T0, 1, 7.0), epoch=0, ttl_s=DAY_S)
    answer = await read(store, "nobody", "a", "nobody")
    assert answer.found.tolist() == [False, True, False]
    assert answer.event_times_ms.tolist() == [0, T0, 0]
    assert np.isnan(answer.values[[0, 2]]).all()


async def test_nothing_is_a_batch(opener: Opener) -> None:
    """Writing and reading no rows is right, and says so."""
    store = await opener()
    assert await store.write_rows(rows([], [], [], np.zeros((0, 2))), epoch=0, ttl_s=1) == 0
    assert (await read(store, width=2)).values.shape == (0, 2)


async def test_newer_is_by_time_then_epoch_then_offset(opener: Opener) -> None:
    """Whatever order rows arrive in, the one newest by (event time, epoch, offset) is kept."""
    versions = [(T0, 0, 5), (T0, 0, 6), (T0, 1, 0), (T0 + 1, 0, 0)]
    store = await opener()
    for number, order in enumerate(itertools.permutations(range(4))):
        entity = f"e{number}"
        newest = (-1, 0, 0)
        for version in order:
            time_ms, epoch, offset = versions[version]
            kept = await store.write_rows(
                one(time_ms, offset, float(version), entity), epoch=epoch, ttl_s=DAY_S
            )
            assert kept == (versions[version] >= newest)
            newest = max(newest, versions[version])
        assert await value(store, entity) == 3.0


async def test_offsets_beyond_32_bits_are_compared_exactly(opener: Opener) -> None:
    """Neighbouring offsets and times at the end of the exact range are told apart."""
    store = await opener()
    top = 2**53
    await store.write_rows(one(T0, top - 1, 1.0), epoch=0, ttl_s=DAY_S)
    assert await store.write_rows(one(T0, top - 2, 2.0), epoch=0, ttl_s=DAY_S) == 0
    assert await store.write_rows(one(T0, top, 3.0), epoch=0, ttl_s=DAY_S) == 1
    assert await value(store) == 3.0
    await store.write_rows(one(-5, 0, 4.0, "before 1970"), epoch=0, ttl_s=DAY_S)
    assert await store.write_rows(one(-6, 9, 5.0, "before 1970"), epoch=0, ttl_s=DAY_S) == 0


async def test_a_number_that_is_not_exact_is_refused(opener: Opener) -> None:
    """An event time beyond 2**53 is a wrong unit: nothing is written, the worker stops."""
    store = await opener()
    with pytest.raises(FatalError, match="event time outside"):
        await store.write_rows(one(2**53 + 1, 0, 1.0), epoch=0, ttl_s=DAY_S)
    assert not (await read(store, "a")).found[0]


async def test_repeating_a_write_changes_nothing(opener: Opener) -> None:
    """The same rows again are kept again and read the same."""
    store = await opener()
    batch = rows("abc", [T0] * 3, [1, 2, 3], [[1.0], [2.0], [3.0]])
    for _ in range(3):
        assert await store.write_rows(batch, epoch=0, ttl_s=DAY_S) == 3
        assert (await read(store, "a", "b", "c")).values.ravel().tolist() == [1.0, 2.0, 3.0]


async def test_a_row_as_new_replaces_the_one_there(opener: Opener) -> None:
    """After a change of the view the same event has other values, and they are the ones kept."""
    store = await opener()
    await store.write_rows(one(T0, 1, 1.0), epoch=0, ttl_s=DAY_S)
    await store.write_rows(rows(["a"], [T0], [1], [[8.0, 9.0]]), epoch=0, ttl_s=DAY_S)
    assert (await read(store, "a", width=2)).values.tolist() == [[8.0, 9.0]]
    assert not (await read(store, "a", width=1)).found[0], "another width is another layout"


async def test_old_rows_are_not_found(opener: Opener) -> None:
    """A row is found up to exactly its time to live after its event, and not after."""
    store = await opener()
    await store.write_rows(one(T0, 1, 1.0), epoch=0, ttl_s=DAY_S)
    limit = T0 + 86_400_000
    assert (await read(store, "a", now_ms=limit)).found[0]
    assert not (await read(store, "a", now_ms=limit + 1)).found[0]


async def test_a_row_not_renewed_is_gone(opener: Opener) -> None:
    """A row leaves the store once its time to live has passed, also if its event is recent."""
    store = await opener()
    await store.write_rows(one(T0, 1, 1.0), epoch=0, ttl_s=0.05)
    deadline = time.monotonic() + 5
    while (await read(store, "a")).found[0]:
        assert time.monotonic() < deadline, "the row is still there"
        await asyncio.sleep(0.01)
    assert await store.write_rows(one(T0 - 1, 0, 2.0), epoch=0, ttl_s=DAY_S) == 1


async def test_a_write_renews_the_time_to_live(opener: Opener) -> None:
    """A row written again lives for the time to live of the last write."""
    store = await opener()
    await store.write_rows(one(T0, 1, 1.0), epoch=0, ttl_s=0.05)
    await store.write_rows(one(T0, 1, 1.0), epoch=0, ttl_s=DAY_S)
    await asyncio.sleep(0.1)
    assert await value(store) == 1.0


async def test_views_do_not_mix(opener: Opener) -> None:
    """One entity has one row in each view."""
    store = await opener()
    await store.write_rows(one(T0, 1, 1.0), epoch=0, ttl_s=DAY_S)
    answer = await store.read_rows("other", ["a"], width=1, ttl_s=DAY_S, now_ms=T0)
    assert not answer.found[0]
    assert not await store.delete_entity("other", "a")
    assert await value(store) == 1.0


async def test_any_name_is_an_entity(opener: Opener) -> None:
    """Empty, spaced, braced and non-ASCII entities are kept apart."""
    store = await opener()
    names = ["", " ", "{", "}", "{a}", "a b", "a\nb", "ä", "数", "a\0b", "a\0c", "x" * 5000]
    numbers = [float(n) for n in range(len(names))]
    batch = rows(names, [T0] * len(names), range(len(names)), [[n] for n in numbers])
    assert await store.write_rows(batch, epoch=0, ttl_s=DAY_S) == len(names)
    assert (await read(store, *names)).values.ravel().tolist() == numbers


async def test_thousands_of_rows_in_one_write(opener: Opener) -> None:
    """A batch larger than one call of the server is written and read whole and in order."""
    store = await opener()
    names = [f"press-{n}" for n in range(2501)]
    values = np.arange(2501 * 3, dtype=np.float64).reshape(-1, 3)
    batch = rows(names, [T0] * 2501, range(2501), values)
    assert await store.write_rows(batch, epoch=0, ttl_s=DAY_S) == 2501
    answer = await read(store, *reversed(names), width=3)
    assert answer.found.all()
    assert answer.values.tobytes() == values[::-1].tobytes()


async def test_deleting_forgets_one_entity(opener: Opener) -> None:
    """A deleted entity is not found, its neighbours are, and an older row may be written anew."""
    store = await opener()
    await store.write_rows(rows("ab", [T0, T0], [1, 2], [[1.0], [2.0]]), epoch=0, ttl_s=DAY_S)
    assert await store.delete_entity("view", "a")
    assert not await store.delete_entity("view", "a")
    assert (await read(store, "a", "b")).found.tolist() == [False, True]
    assert await store.write_rows(one(T0 - 9, 0, 3.0), epoch=0, ttl_s=DAY_S) == 1


async def test_of_two_writers_at_once_the_newer_row_wins(opener: Opener) -> None:
    """Two workers that write the same entities at the same time leave the newest row of each."""
    first, second = await opener(), await opener()
    names = [f"e{n}" for n in range(40)]
    for turn in range(10):
        times = [T0 + turn * 100 + n % 2 for n in range(40)]
        others = [T0 + turn * 100 + (n + 1) % 2 for n in range(40)]
        await asyncio.gather(
            first.write_rows(rows(names, times, [1] * 40, [[1.0]] * 40), epoch=0, ttl_s=DAY_S),
            second.write_rows(rows(names, others, [1] * 40, [[2.0]] * 40), epoch=0, ttl_s=DAY_S),
        )
        answer = await read(first, *names)
        assert answer.values.ravel().tolist() == [2.0, 1.0] * 20


async def test_a_cancelled_call_leaves_the_next_one_right(opener: Opener) -> None:
    """Calls cancelled at any point leave whole rows, and later calls get their own answers."""
    store = await opener()
    names = [f"e{n}" for n in range(300)]
    for turn in range(30):
        batch = rows(names, [T0 + turn] * 300, [turn] * 300, [[float(turn)] * 4] * 300)
        call = asyncio.create_task(store.write_rows(batch, epoch=0, ttl_s=DAY_S))
        look = asyncio.create_task(read(store, *names, width=4))
        await asyncio.sleep(turn * 1e-4)
        call.cancel()
        look.cancel()
        await asyncio.gather(call, look, return_exceptions=True)
        probe = one(T0 + turn, turn, float(turn), "probe")
        assert await store.write_rows(probe, epoch=0, ttl_s=DAY_S) == 1
        answer = await read(store, "probe", "nobody")
        assert answer.values[0].tolist() == [float(turn)]
        assert answer.found.tolist() == [True, False]
    final = rows(names, [T0 + 99] * 300, [99] * 300, [[99.0] * 4] * 300)
    assert await store.write_rows(final, epoch=0, ttl_s=DAY_S) == 300
    assert (await read(store, *names, width=4)).values.min() == 99.0


class LastWriteWins(MemoryStore):
    """Broken: keeps whatever came last."""

    async def write_rows(self, rows: OnlineRows, *, epoch: int, ttl_s: float) -> int:
        for entity in rows.entities:
            await self.delete_entity(rows.view, entity)
        return await super().write_rows(rows, epoch=epoch, ttl_s=ttl_s)


class ReadThenWrite(MemoryStore):
    """Broken: compares, lets others run, and then writes without comparing again."""

    async def write_rows(self, rows: OnlineRows, *, epoch: int, ttl_s: float) -> int:
        held = self._views.get(rows.view, {})
        orders = zip(rows.event_times_ms.tolist(), rows.offsets.tolist(), strict=True)
        newer = [
            at
            for at, (time_ms, offset) in enumerate(orders)
            if rows.entities[at] not in held
            or held[rows.entities[at]].order <= (time_ms, epoch, offset)
        ]
        await asyncio.sleep(0)
        for at in newer:
            await self.delete_entity(rows.view, rows.entities[at])
        chosen = OnlineRows(
            rows.view,
            [rows.entities[at] for at in newer],
            rows.event_times_ms[newer],
            rows.offsets[newer],
            rows.values[newer],
        )
        return await super().write_rows(chosen, epoch=epoch, ttl_s=ttl_s)


class ForgetsEpoch(MemoryStore):
    """Broken: orders by event time and offset only."""

    async def write_rows(self, rows: OnlineRows, *, epoch: int, ttl_s: float) -> int:
        return await super().write_rows(rows, epoch=0, ttl_s=ttl_s)


@pytest.mark.parametrize(
    ("broken", "claim"),
    [
        (LastWriteWins, test_newer_is_by_time_then_epoch_then_offset),
        (ReadThenWrite, test_of_two_writers_at_once_the_newer_row_wins),
        (ForgetsEpoch, test_newer_is_by_time_then_epoch_then_offset),
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
