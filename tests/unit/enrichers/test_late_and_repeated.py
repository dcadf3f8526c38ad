"""Late and repeated events: the watermark before each event decides, whatever the batch."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import enrich_world as world

from headrace.enrichers.dedupe import SeenIds
from headrace.enrichers.enricher import Enricher
from headrace.enrichers.late import BEGINNING, split_late


def test_late_is_judged_by_the_events_before() -> None:
    """An event is late only against those before it; exactly at the limit it is not."""
    times = np.array([50, 100, 70, 69, 200, 169])
    late, before, after = split_late(times, times + 500, BEGINNING, 30)

    assert late.tolist() == [False, False, False, True, False, True]
    assert before.tolist() == [BEGINNING, 50, 100, 100, 100, 200]
    assert after == 200


def test_an_empty_batch_keeps_the_watermark() -> None:
    """No events, no change."""
    none = np.array([], np.int64)

    assert split_late(none, none, 77, 30)[2] == 77


def seen(lateness_ms: int = 100) -> SeenIds:
    """A memory of nothing."""
    return SeenIds(lateness_ms)


def feed(memory: SeenIds, *events: tuple[str, int], watermark: int = BEGINNING) -> list[bool]:
    """Feed one batch and fold it; which of its events were repeats."""
    ids, times = [i for i, _ in events], np.array([t for _, t in events], np.int64)
    late, before, after = split_late(times, times, watermark, 100)
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


def test_one_clock_that_is_ahead_makes_no_other_device_late() -> None:
    """59 s ahead is within what is allowed; the others, 5 s late at most, are served all the same.

    The watermark would otherwise stand 59 s ahead, and everybody be late until time catches up.
    """
    enricher = Enricher(world.pipeline())
    clock, values, logged = world.START_MS, [], []
    for n in range(60):
        clock += 1000
        ahead = world.event(f"w{n}", "wild", clock + 59_000, load=1.0)
        others = [world.event(f"g{n}-{k}", f"good{k}", clock - k, load=1.0) for k in range(3)]
        values += [ahead, *others]
        logged += [clock + 20] * 4

    found = enricher.apply(enricher.new_state(), world.batch(values, 0, logged))

    assert (len(found.events), found.late, found.dead) == (240, {}, {})


def test_a_log_of_another_year_is_judged_by_its_own_times() -> None:
    """Where event times have nothing to do with the broker's, they count as they are."""
    enricher = Enricher(world.pipeline(max_skew_s=9e9))
    times = [world.START_MS + n for n in (0, 60_000, 1000)]
    values = [world.event(f"e{t}", f"d{t}", t, load=1.0) for t in times]

    found = enricher.apply(enricher.new_state(), world.batch(values, 0, [1_000_000] * 3))

    assert (list(found.late), found.dead) == ([2], {})


def test_a_clock_that_is_set_back_makes_its_own_events_late_alone() -> None:
    """Behind its own newest by more than is allowed, an event is late; its neighbours are not."""
    enricher = Enricher(world.pipeline())
    start = world.START_MS
    values = [
        world.event("a", "wild", start + 59_000, load=1.0),
        world.event("b", "good", start, load=1.0),
        world.event("c", "wild", start + 1000, load=1.0),
        world.event("d", "wild", start + 54_000, load=1.0),
    ]

    found = enricher.apply(enricher.new_state(), world.batch(values, 0, [start + 2000] * 4))

    assert found.late == {2: "wild"}
    assert [found.events.ids, found.repeated] == [["a", "b", "d"], 0]


def test_the_rule_of_the_own_device_is_what_windows_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it an event reaches below the tiles that its device's windows hold: bits differ."""
    start = world.START_MS
    times = [59_000, 1000, 59_000, 1000, 59_000]
    values = [world.event(f"e{n}", "wild", start + t, load=1.0 + n) for n, t in enumerate(times)]
    records = world.batch(values, 0, [start + 2000] * len(times))
    world.check_cuts(Enricher(world.pipeline()), records, [1, 2, 3, 4])
    monkeypatch.setattr(Enricher, "_behind", lambda *_: None)

    assert world.run(Enricher(world.pipeline()), records, []).verdicts != world.expected(
        world.pipeline(), records
    )
