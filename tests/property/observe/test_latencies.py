"""Latencies by hop: what a plain count of every event gives, however batches are cut and merged."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.block import Labels
from headrace.schemas.timed import Timed
from headrace.streams.client.latency import BINS, bins_of, count_within, upper_ms
from headrace.streams.observe.class_numbers import MOST_CLASSES, OTHER
from headrace.streams.observe.exposition import BOUNDS_MS
from headrace.streams.observe.hops import (
    HOPS,
    HopRecorder,
    decode_bins,
    encode_bins,
)
from headrace.streams.observe.latencies import LatencyLives, RecentCounts, merged, percentiles

SHARES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99, "p999_ms": 0.999}
NOW_MS = 1_790_000_000_000

event = st.tuples(
    st.integers(0, 100_000),  # age at the broker, ms
    st.integers(0, 50_000),  # age when its batch begins
    st.sampled_from(["press", "lathe", "mill"]),
)


def timed(events: list[tuple[int, int, str]]) -> Timed:
    log = np.array([NOW_MS - waited for _, waited, _ in events], np.int64)
    ages = np.array([age for age, _, _ in events], np.int64)
    offsets = np.arange(len(events))
    return Timed("t", 0, offsets, log - ages, log, Labels.encode([name for _, _, name in events]))


def exact(values: list[float], share: float) -> float:
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


@settings(max_examples=60, deadline=None)
@given(st.lists(event, min_size=1, max_size=80), st.lists(st.integers(0, 80), max_size=4))
def test_percentiles_are_those_of_every_single_event(
    events: list[tuple[int, int, str]], cuts: list[int]
) -> None:
    """By hop and class, counts are exact and percentiles within 1 %, in any batches and workers."""
    workers = [HopRecorder(), HopRecorder()]
    edges = [0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]
    truth: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number, (start, stop) in enumerate(itertools.pairwise(edges)):
        part, took_ms = events[start:stop], 3.5 + number
        if not part:
            continue
        readable_ms = NOW_MS + took_ms
        workers[number % 2].record(timed(part), begun_ms=NOW_MS, readable_ms=readable_ms)
        for age, waited, name in part:
            truth["device_to_ingest", name].append(age)
            truth["ingest_to_enrich", name].append(waited)
            truth["enrich_to_features", name].append(took_ms)
            truth["device_to_features", name].append(age + waited + took_ms)

    lives = []
    for worker in workers:
        lives.append(LatencyLives())
        lives[-1].take(0, worker.counted())
    found = {(p.hop, p.device_class): p for p in percentiles(merged([x.counts() for x in lives]))}

    for place, values in truth.items():
        assert found[place].count == len(values)
        for name, share in SHARES.items():
            assert getattr(found[place], name) == pytest.approx(
                exact(values, share), rel=0.01, abs=0.001
            )


@settings(deadline=None)
@given(st.lists(st.floats(-10, 1e10), min_size=1, max_size=100))
def test_every_value_is_in_its_bin(values: list[float]) -> None:
    """A bin holds what is above the bound before and at most its own."""
    within = np.clip(np.array(values), 2.0**-9, 2.0**31)
    places = bins_of(within)

    assert (within <= upper_ms(places)).all()
    assert (within > upper_ms(places - 1)).all()


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 1e5), max_size=100), st.sampled_from(BOUNDS_MS))
def test_counts_below_a_bucket_are_exact(values: list[float], bound_ms: float) -> None:
    """Every bucket of the exposition is a bound of the bins."""
    counts = np.bincount(bins_of(np.array(values, np.float64)), minlength=BINS)

    assert count_within(counts, bound_ms) == sum(value <= bound_ms for value in values)


@settings(deadline=None)
@given(st.dictionaries(st.integers(0, BINS - 1), st.integers(1, 1 << 40), max_size=50))
def test_bins_travel(found: dict[int, int]) -> None:
    """What was encoded comes back."""
    counts = np.zeros(BINS, np.int64)
    for place, count in found.items():
        counts[place] = count

    assert (decode_bins(encode_bins(counts)) == counts).all()


def test_bins_that_do_not_exist_are_refused() -> None:
    """A worker of another version cannot make counts of nothing."""
    with pytest.raises(ValueError, match="a bin that does not exist"):
        decode_bins(bytes([255, 127, 1]))
    with pytest.raises(ValueError, match="a bin that does not exist"):
        decode_bins(bytes([1]))


def test_serving_hops_come_from_their_own_times() -> None:
    """SERVE counts from the block's broker time, and from when inference began."""
    recorder = HopRecorder()
    events = Timed(
        "t", 0, np.arange(2),
        np.array([1000, 1000]), np.array([1010, 1020]), None, np.array([1040, 1050]), 1060.0,
    )  # fmt: skip
    recorder.record(events, begun_ms=1055.0, readable_ms=1100.0)
    lives = LatencyLives()
    lives.take(0, recorder.counted())

    highest = {hop: upper_ms(np.flatnonzero(c)[-1:])[0] for (hop, _), c in lives.counts().items()}
    assert set(highest) == {hop for hop, stage in HOPS.items() if stage == "serve"}
    assert highest == pytest.approx(
        {
            "features_to_inference": 20.0,
            "inference_to_prediction": 40.0,
            "ingest_to_prediction": 90.0,
            "device_to_prediction": 100.0,
        },
        rel=0.016,
    )


def test_a_restart_takes_nothing_away_and_the_past_is_looked_back_at() -> None:
    """Lives add up; the last minute is what came within it."""
    lives, recent = LatencyLives(), RecentCounts()
    for life, now_s in ((0, 0.0), (1, 100.0)):
        recorder = HopRecorder()
        recorder.record(timed([(5, 5, "press")] * 3), begun_ms=NOW_MS, readable_ms=NOW_MS)
        lives.take(life, recorder.counted())
        recent.observe(now_s, lives.counts())

    place = ("device_to_ingest", "press")
    assert lives.counts()[place].sum() == 6
    assert recent.since(100.0, 60.0, lives.counts())[place].sum() == 3
    assert recent.since(100.0, 300.0, lives.counts())[place].sum() == 6


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=40))
def test_a_trend_is_what_came_between_its_slots(steps: list[tuple[int, int]]) -> None:
    """Slots together hold what came since the first look, each event once, oldest first."""
    recent, place, now_s = RecentCounts(), ("device_to_ingest", "all"), 0.0
    counts, first, last = np.zeros(BINS, np.int64), None, 0
    for waited, events in steps:
        now_s += 5.0 * waited
        counts = counts.copy()
        counts[7] += events
        slots = len(recent.trend(now_s))
        recent.observe(now_s, {place: counts})
        first = counts.sum() if first is None else first
        if len(recent.trend(now_s)) > slots:
            last = int(counts.sum())

    found = recent.trend(now_s)
    assert sum(int(slot[place].sum()) for _, slot in found) == (last - first if found else 0)
    ages = [age_s for age_s, _ in found]
    assert ages == sorted(ages, reverse=True)


def test_classes_are_bounded() -> None:
    """However many classes there are, no more labels come of them, and no event is lost."""
    recorder = HopRecorder()
    names = [f"class-{k}" for k in range(100)]
    recorder.record(timed([(1, 1, n) for n in names]), begun_ms=NOW_MS, readable_ms=NOW_MS)

    counted = recorder.counted()["device_to_ingest"]
    assert len(counted) == MOST_CLASSES
    assert sum(int(decode_bins(bins).sum()) for bins in counted.values()) == 100
    assert int(decode_bins(counted[OTHER]).sum()) == 100 - (MOST_CLASSES - 1)
