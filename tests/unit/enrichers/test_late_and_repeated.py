"""Late and repeated events: the watermark before each event decides, whatever the batch."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.enrichers.dedupe import SeenIds
from headrace.enrichers.late import BEGINNING, split_late


def test_late_is_judged_by_the_events_before() -> None:
    """An event is late only against those before it; exactly at the limit it is not."""
    late, before, after = split_late(np.array([50, 100, 70, 69, 200, 169]), BEGINNING, 30)

    assert late.tolist() == [False, False, False, True, False, True]
    assert before.tolist() == [BEGINNING, 50, 100, 100, 100, 200]
    assert after == 200


def test_an_empty_batch_keeps_the_watermark() -> None:
    """No events, no change."""
    assert split_late(np.array([], np.int64), 77, 30)[2] == 77


def seen(lateness_ms: int = 100) -> SeenIds:
    """A memory of nothing."""
    return SeenIds(lateness_ms)


def feed(memory: SeenIds, *events: tuple[str, int], watermark: int = BEGINNING) -> list[bool]:
    """Feed one batch and fold it; which of its events were repeats."""
    ids, times = [i for i, _ in events], np.array([t for _, t in events], np.int64)
    late, before, after = split_late(times, watermark, 100)
    assert not late.any()
    repeats = memory.find(ids, times, before)
    kept = [i for i, repeat in zip(ids, repeats.tolist(), strict=True) if not repeat]
    memory.fold(memory.new(kept, times[~repeats], name=0, watermark=after))
    return repeats.tolist()


def test_repeats_in_a_batch_and_across_batches() -> None:
    """An id is a repeat after its first event, in the same batch or a later one."""
    memory = seen()

    assert feed(memory, ("a", 0), ("b", 5), ("a", 0)) == [False, False, True]
    assert feed(memory, ("c", 10), ("b", 5), ("c", 10)) == [False, True, True]
    assert len(memory) == 3


def test_an_id_is_kept_for_the_allowed_lateness() -> None:
    """A repeat at the very limit of lateness is recognised."""
    memory = seen()
    feed(memory, ("a", 1000))
    feed(memory, ("b", 1100))

    assert feed(memory, ("a", 1000), watermark=1100) == [True]


def test_forgotten_ids_take_no_memory() -> None:
    """Ids behind the allowed lateness are gone, and so are their checkpoint fields."""
    memory = seen()
    feed(memory, *((f"e{n}", n) for n in range(1000)), watermark=0)
    new = memory.new(["late"], np.array([5000]), name=9, watermark=5000)
    dropped = memory.dropped(new)
    memory.fold(new)

    assert len(memory) == 1
    assert set(dropped) == {f"bids/{s}{n}".encode() for s in range(35, 40) for n in ("", "/0")}


def test_an_id_that_comes_back_later_is_new_again() -> None:
    """An id whose segment no longer lives at the event is new, also within one batch."""
    memory = seen()

    assert feed(memory, ("a", 0), ("b", 500), ("a", 450), ("a", 450)) == [
        False,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("order", [1, -1])
def test_load_gives_back_what_dump_said(order: int) -> None:
    """Fields in any order restore the same memory."""
    memory, other = seen(), seen()
    feed(memory, *((f"é{n}", n) for n in range(90)))
    other.load(list(memory.dump())[::order])

    assert list(other.dump()) == list(memory.dump())
    assert feed(other, ("é3", 3), watermark=89) == [True]
