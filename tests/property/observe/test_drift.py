"""Drift: found where it was planted, not where there is none, and the same in any order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.block import Labels
from headrace.schemas.observe import Drift
from headrace.schemas.observed import Finding
from headrace.schemas.timed import Timed
from headrace.streams.observe.drift import DriftJudge, WindowSketch, ks_and_psi
from headrace.streams.observe.drift_sketch import DriftSketch, WindowCounts
from headrace.streams.upstream.quantiles import Bins

DEVICES = 40
RULES = Drift(window_s=600.0, sample_every=1, false_alarms_per_day=0.1)


def bins(values: np.ndarray) -> Bins:
    return Bins.empty(1).folded(np.zeros(len(values), np.intp), values)


def window(rng: np.random.Generator, *, shift: float = 0.0, rows: int = 800) -> WindowSketch:
    """Devices with a level of their own that wanders: events of one resemble each other."""
    device = rng.integers(0, DEVICES, rows)
    wander = rng.normal(0, 0.3, DEVICES)
    level = np.linspace(-1, 1, DEVICES) + wander
    one = level[device] + rng.normal(0, 0.5, rows) + shift + 10
    two = rng.exponential(5.0, rows)
    score = 1 / (1 + np.exp(-(one - 10)))
    parts = tuple(bins(column) for column in (one, two, score, np.maximum(score, 1 - score)))
    return WindowSketch(rows, int((score > 0.9).sum()), parts)


def days(judge: DriftJudge, rng: np.random.Generator, windows: int, **shift: float) -> Iterator:
    for number in range(windows):
        yield from judge.judge(number, {"press": window(rng, **shift), "lathe": window(rng)})


def alarms(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.alarm]


def test_a_day_of_stable_data_has_no_more_false_alarms_than_accepted() -> None:
    """Four days of two classes that only wander: 0.4 false alarms are accepted, none comes."""
    judge = DriftJudge(RULES, ("one", "two"))
    findings = list(days(judge, np.random.default_rng(5), 144 * 4 + 12))

    assert len(findings) == 144 * 4 * 2 * 7
    assert alarms(findings) == []


def test_a_planted_shift_is_found_in_its_feature_and_class_within_two_windows() -> None:
    """One standard deviation in one feature of one class: named, and nothing else of the input."""
    rng = np.random.default_rng(3)
    judge = DriftJudge(RULES, ("one", "two"))
    assert alarms(list(days(judge, rng, 30))) == []

    found = alarms(list(days(judge, rng, 2, shift=0.9)))

    assert {"one"} <= {finding.quantity for finding in found}
    assert {finding.device_class for finding in found} == {"press"}
    assert "two" not in {finding.quantity for finding in found}
    assert all(finding.distance > finding.limit for finding in found)


def test_missing_values_are_drift() -> None:
    """A feature that half of the devices no longer send is named as missing."""
    rng = np.random.default_rng(4)
    judge = DriftJudge(RULES, ("one", "two"))
    list(days(judge, rng, 20))
    now = window(rng)
    half = bins(rng.exponential(5.0, 400))
    now = WindowSketch(now.rows, now.high, (now.bins[0], half, *now.bins[2:]))

    found = alarms(judge.judge(20, {"press": now}))

    assert [finding.quantity for finding in found] == ["missing.two"]
    assert found[0].value == pytest.approx(0.5)


numbers = st.lists(st.floats(0.5, 1e4), min_size=1, max_size=60)


@settings(max_examples=100, deadline=None)
@given(numbers, numbers)
def test_the_distance_is_the_exact_one_to_within_a_bin(one: list[float], two: list[float]) -> None:
    """Between the exact distance of the values, and that of values moved by less than a bin."""
    both = np.sort(np.array([*one, *two]))
    # The same values, all in one bin each: rounded down to the bin's lower bound.
    floor = [np.sort((np.array(v).view(np.int64) >> 46 << 46).view(np.float64)) for v in (one, two)]
    edges = np.unique(np.concatenate(floor))
    exact = max(
        abs(
            np.searchsorted(floor[0], edge, "right") / len(one)
            - np.searchsorted(floor[1], edge, "right") / len(two)
        )
        for edge in edges
    )
    distance, index = ks_and_psi(bins(np.array(one)), bins(np.array(two)))

    assert len(both)
    assert distance == pytest.approx(exact)
    assert index >= 0


events = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from("ab"), st.floats(0, 100), st.booleans()),
    min_size=1,
    max_size=60,
)


def timed(rows: list[tuple[int, str, float, bool]], first: int) -> Timed:
    offsets = np.arange(first, first + len(rows))
    log = np.array([window * 600_000 + 7 for window, *_ in rows], np.int64)
    values = np.array([[value] for _, _, value, _ in rows])
    score = values[:, 0].astype(np.float32) / 100
    high = np.array([flag for *_, flag in rows])
    classes = Labels.encode([name for _, name, *_ in rows])
    return Timed("t", 0, offsets, log, log, classes, log, 0.0, values, score, score, high)


def told(parts: list[DriftSketch]) -> dict[tuple[int, str], tuple[int, int, list[bytes]]]:
    total: dict[tuple[int, str], WindowSketch] = {}
    for counts in (found for part in parts for found in part.counted()):
        sketch = sketch_of(counts)
        key = (counts.window, counts.device_class)
        total[key] = total[key].merged(sketch) if key in total else sketch
    return {k: (s.rows, s.high, [b.encode() for b in s.bins]) for k, s in total.items()}


def sketch_of(counts: WindowCounts) -> WindowSketch:
    parts = Bins.decode(counts.bins).split(1)
    return WindowSketch(counts.rows, counts.high, tuple(parts))


@settings(max_examples=60, deadline=None)
@given(events, st.integers(0, 60), st.integers(1, 3))
def test_what_is_counted_hangs_on_the_log_alone(
    rows: list[tuple[int, str, float, bool]], cut: int, every: int
) -> None:
    """One worker or two, any batches: the same sample, and the same bits of every window."""
    rules = Drift(sample_every=every)
    kept = [row for row in rows if row[0] > max(w for w, *_ in rows) - 3]
    cut = min(cut, len(kept))
    whole, first, second = DriftSketch(rules), DriftSketch(rules), DriftSketch(rules)
    whole.record(timed(kept, 0))
    first.record(timed(kept[:cut], 0)) if cut else None
    second.record(timed(kept[cut:], cut)) if cut < len(kept) else None

    assert told([whole]) == told([first, second])
    assert sum(found[0] for found in told([whole]).values()) == -(-len(kept) // every)
