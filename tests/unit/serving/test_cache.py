"""The row cache: keys, bounds, time to live; and whether it pays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.serving.cache import RowCache, row_keys
from headrace.serving.gain import FIRST_PAUSE_ROWS, PROBE_ROWS, CacheGain


class Clock:
    def __init__(self):
        self.s = 0.0

    def __call__(self):
        return self.s


def keys(*names):
    return [name.encode() for name in names]


def answers(*values):
    return np.array([values], np.float32).T


def test_what_was_put_is_found_and_nothing_else():
    """A slot per known key, -1 for the others."""
    cache = RowCache(rows=4, width=1, ttl_s=10)
    cache.put(keys("a", "b"), answers(1, 2))

    slots = cache.find(keys("b", "x", "a"))

    assert slots[1] == -1
    assert cache.answers(slots[[0, 2]]).tolist() == [[2], [1]]


def test_the_least_recently_used_goes_first():
    """A bounded cache drops what nobody asked for longest."""
    cache = RowCache(rows=2, width=1, ttl_s=10)
    cache.put(keys("a", "b"), answers(1, 2))
    cache.find(keys("a"))
    cache.put(keys("c"), answers(3))

    assert (cache.find(keys("a", "b", "c")) >= 0).tolist() == [True, False, True]
    assert len(cache) == 2


def test_more_rows_than_fit_leave_the_newest():
    """A batch larger than the cache does not corrupt it."""
    cache = RowCache(rows=2, width=1, ttl_s=10)
    cache.put(keys("a", "b", "c", "d"), answers(1, 2, 3, 4))

    slots = cache.find(keys("a", "b", "c", "d"))
    assert (slots >= 0).tolist() == [False, False, True, True]
    assert cache.answers(slots[2:]).tolist() == [[3], [4]]


def test_what_is_too_old_is_dropped_by_what_comes_next():
    """A stream of rows that never repeat holds those of one TTL, not as many as fit."""
    clock = Clock()
    cache = RowCache(rows=100, width=1, ttl_s=10, now=clock)
    held = []
    for turn in range(60):
        clock.s = float(turn)
        cache.put(keys(f"a{turn}", f"b{turn}"), answers(turn, -turn))
        held.append(len(cache))
    assert max(held) <= 2 * 12
    assert cache.answers(cache.find(keys("a59", "b55"))).tolist() == [[59], [-55]]


@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from("abcdefgh"), unique=True), st.sampled_from([0, 1, 4])),
        max_size=40,
    )
)
def test_whatever_comes_and_goes_an_answer_is_that_of_its_key(turns):
    """What is found was put last under that key, within the TTL; never more than fit."""
    clock, newest = Clock(), {}
    cache = RowCache(rows=5, width=1, ttl_s=5, now=clock)
    for number, (names, later_s) in enumerate(turns):
        clock.s += later_s
        values = [number * 10 + place for place in range(len(names))]
        cache.put(keys(*names), answers(*values))
        newest |= {name: (value, clock.s) for name, value in zip(names, values, strict=True)}
        assert len(cache) <= 5
        known = keys(*newest)
        slots = cache.find(known)
        found = dict(zip(newest, slots.tolist(), strict=True))
        for name, slot in found.items():
            value, since = newest[name]
            if slot >= 0:
                assert cache.answers([slot]).tolist() == [[value]]
                assert clock.s - since <= 5
        kept = [slot for slot in found.values() if slot >= 0]
        assert len(set(kept)) == len(kept)
        assert all(found[name] >= 0 for name in names[-5:])


def test_an_old_answer_is_not_used_and_may_be_renewed():
    """After the TTL a key counts as unknown until it is put again."""
    clock = Clock()
    cache = RowCache(rows=2, width=1, ttl_s=10, now=clock)
    cache.put(keys("a"), answers(1))

    clock.s = 10.0
    assert cache.find(keys("a")).tolist() != [-1]
    clock.s = 10.1
    assert cache.find(keys("a")).tolist() == [-1]
    cache.put(keys("a"), answers(5))
    assert cache.answers(cache.find(keys("a"))).tolist() == [[5]]


def test_keys_differ_by_value_model_dtype_and_width():
    """Zero and minus zero are different bits; so are models, dtypes and widths."""
    zeros = np.zeros((1, 4), np.float32)
    found = [
        row_keys(zeros, "a")[0],
        row_keys(-zeros, "a")[0],
        row_keys(zeros, "b")[0],
        row_keys(np.zeros((1, 2), np.float64), "a")[0],
        row_keys(np.zeros((1, 8), np.float32), "a")[0],
    ]

    assert len(set(found)) == len(found)
    assert {len(key) for key in found} == {16}


def look_up(gain, rows, *, share, spent_s, row_s):
    gain.observe(rows=rows, answered=int(rows * share), spent_s=rows * spent_s, row_s=row_s)


def test_a_cache_that_costs_more_than_it_saves_goes_off():
    """Looking up at 1 µs a row never pays for inference at 0.05 µs, even when every row hits."""
    gain = CacheGain()
    look_up(gain, PROBE_ROWS, share=1.0, spent_s=1e-6, row_s=5e-8)
    look_up(gain, PROBE_ROWS, share=1.0, spent_s=1e-6, row_s=5e-8)

    assert not gain.on


def test_a_cache_that_pays_stays_on():
    """Half the rows answered at 1 µs, against 20 µs for the model, is kept."""
    gain = CacheGain()
    for _ in range(20):
        look_up(gain, PROBE_ROWS, share=0.5, spent_s=1e-6, row_s=2e-5)
        assert gain.on


def test_the_first_half_of_a_probe_fills_the_cache_and_does_not_count():
    """A cache begins empty: it is judged by what it answers once it is warm."""
    gain = CacheGain()
    look_up(gain, PROBE_ROWS // 2, share=0.0, spent_s=1e-6, row_s=2e-5)
    assert gain.on
    look_up(gain, PROBE_ROWS // 2, share=0.5, spent_s=1e-6, row_s=2e-5)

    assert gain.on


def test_hysteresis_keeps_a_marginal_cache_as_it_is():
    """A gain of 1.2 does not turn it on, and does not turn it off."""
    marginal = {"share": 1.0, "spent_s": 1e-6, "row_s": 1.2e-6}
    fresh, proved = CacheGain(), CacheGain()
    look_up(proved, PROBE_ROWS, share=1.0, spent_s=1e-6, row_s=1e-5)
    look_up(proved, PROBE_ROWS, share=1.0, spent_s=1e-6, row_s=1e-5)
    for gain in (fresh, proved):
        look_up(gain, PROBE_ROWS, **marginal)
        look_up(gain, PROBE_ROWS, **marginal)

    assert (fresh.on, proved.on) == (False, True)


def test_it_asks_again_later_and_ever_less_often():
    """Each probe in vain doubles the pause before the next one."""
    gain = CacheGain()
    pauses = []
    for _ in range(4):
        while gain.on:
            look_up(gain, 1024, share=0.0, spent_s=1e-6, row_s=1e-7)
        skipped = 0
        while not gain.on:
            gain.skipped(1024)
            skipped += 1024
        pauses.append(skipped)

    assert pauses == [FIRST_PAUSE_ROWS * 2**k for k in range(4)]


def test_always_on_is_never_judged():
    """`cache = "on"` is the operator's decision."""
    gain = CacheGain(always=True)
    for _ in range(10):
        look_up(gain, PROBE_ROWS, share=0.0, spent_s=1.0, row_s=0.0)

    assert gain.on


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_keys_of_any_number_of_rows(rows):
    """One key per row."""
    assert len(row_keys(np.ones((rows, 2), np.float32), "a")) == rows
