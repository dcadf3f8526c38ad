"""Sketches against exact answers: within their stated error, the same bits however they merge."""

import itertools
import math
from collections import Counter
from functools import reduce

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.summary import DeviceCount, Distinct, Frequent, Quantiles
from headrace.streams.upstream import distinct, frequent, quantiles, varints
from headrace.streams.upstream.quantiles import Bins

numbers = st.one_of(
    st.floats(-1e6, 1e6),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1.0, 5e-324, -1.7e308, 1.7e308]),
)
some = st.lists(numbers, max_size=60)
shares = st.sampled_from([0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 1.0])


def sketch(values) -> Quantiles:
    values = np.array(values, float)
    (made,) = Bins.empty(1).folded(np.zeros(len(values), np.intp), values).sketches()
    return made


def wide(seed, size) -> np.ndarray:
    """Values of more octaves and signs than there are bins at the finest level."""
    random = np.random.default_rng(seed)
    return random.normal(size=size) * 10.0 ** random.integers(-9, 9, size)


def assert_quantile(made, values, share):
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    found = quantiles.quantile(made, share)
    assert abs(found - exact) <= quantiles.relative_error(made) * abs(exact) + 1e-300


@given(values=some.filter(len), share=shares)
@settings(max_examples=300)
def test_a_quantile_is_within_its_relative_error(values, share):
    """Against the sorted values at exactly that rank."""
    assert_quantile(sketch(values), values, share)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 1.0])
def test_a_quantile_is_within_its_error_after_bins_were_joined(seed, share):
    """The error that a sketch tells of itself grows as bins are joined, and holds."""
    values = wide(seed, 20_000)
    made = sketch(values)

    assert made.level > 0
    assert len(quantiles.read_quantiles(made).codes) <= quantiles.MAX_BINS
    assert_quantile(made, values.tolist(), share)


@given(values=some, value=numbers)
@settings(max_examples=300)
def test_bounds_of_a_rank_hold(values, value):
    """The exact rank is between the two; equal bins on either side leave no doubt."""
    low, high = quantiles.rank(sketch(values), value)

    assert low <= sum(v <= value for v in values) <= high


@given(a=some, b=some, c=some)
@settings(max_examples=200)
def test_quantiles_merge_to_the_same_bits(a, b, c):
    """Any order and any tree of merges is folding all values into one sketch."""
    whole = sketch([*a, *b, *c])
    for x, y, z in itertools.permutations([a, b, c]):
        x, y, z = sketch(x), sketch(y), sketch(z)
        assert quantiles.merge_quantiles(quantiles.merge_quantiles(x, y), z) == whole
        assert quantiles.merge_quantiles(x, quantiles.merge_quantiles(y, z)) == whole


@given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(1, 2999), max_size=6))
@settings(max_examples=50, deadline=None)
def test_bins_have_the_same_bits_for_any_cut(seed, cuts):
    """Also where bins are joined on the way, in another order, and through a checkpoint."""
    values = wide(seed, 3000)
    place = np.random.default_rng(seed).integers(0, 3, 3000)
    whole = Bins.empty(3).folded(place, values)
    made = Bins.empty(3)
    edges = sorted({0, 3000, *cuts})
    for at, to in itertools.pairwise(edges):
        made = Bins.decode(made.folded(place[at:to], values[at:to]).encode())
    backwards = Bins.empty(3).folded(place[::-1], values[::-1])

    assert made.encode() == whole.encode() == backwards.encode()
    assert Bins.stacked(whole.split(1)).encode() == whole.encode()


def test_values_that_are_no_numbers_are_in_no_bin():
    """As in the moments beside it."""
    assert sketch([1.0, math.nan, math.inf, -math.inf]) == sketch([1.0])
    assert quantiles.quantile(sketch([]), 0.5) is None


@given(values=st.lists(st.integers(0, 2**62), max_size=50))
def test_numbers_in_base_128_come_back(values):
    """All of them, whatever their sizes."""
    packed = varints.pack(np.array(values, np.int64))

    assert varints.unpack(packed).tolist() == values


names = st.lists(st.text("abc", max_size=6), max_size=40)


@given(a=names, b=names)
@settings(max_examples=100)
def test_distinct_merges_to_the_same_bits(a, b):
    """The union's sketch, in either order, repeats or not."""
    merged = distinct.merge_distinct(distinct.distinct_of(a), distinct.distinct_of(b))

    assert merged == distinct.distinct_of({*b, *a})
    assert merged == distinct.merge_distinct(distinct.distinct_of(b), distinct.distinct_of(a))


@pytest.mark.parametrize("size", [0, 1, 10, 100, 1000, 3000, 10_000, 100_000])
def test_distinct_is_within_three_standard_errors(size):
    """For few and for many; the names are fixed, so this hangs on no chance."""
    found = distinct.estimate(distinct.distinct_of(f"dev-{k}" for k in range(size)))

    assert abs(found - size) <= 3 * distinct.RELATIVE_ERROR * size


def test_distinct_is_as_good_as_it_says_over_many_sets():
    """The root mean square error of 200 sets is the standard error, give or take a fifth."""
    size = 20_000
    off = [
        distinct.estimate(distinct.distinct_of(f"{s}/{k}" for k in range(size))) / size - 1
        for s in range(60)
    ]
    root = math.sqrt(sum(x * x for x in off) / len(off))

    assert root == pytest.approx(distinct.RELATIVE_ERROR, rel=0.25)


counted = st.dictionaries(st.sampled_from("abcdefghij"), st.integers(0, 50))


@given(parts=st.lists(counted, min_size=1, max_size=5), counters=st.integers(1, 6))
@settings(max_examples=300)
def test_frequent_devices_are_within_their_error(parts, counters):
    """However they are merged: bounds of each count, of those not named, and of the error."""
    made = [frequent.frequent_of(part, counters=counters) for part in parts]
    exact = sum((Counter(part) for part in parts), Counter())
    for tree in (made, made[::-1]):
        found = reduce(frequent.merge_frequent, tree)
        counts = {d.device_id: d.count for d in found.devices}

        assert found.total == exact.total()
        assert len(counts) <= counters
        assert found.error * (counters + 1) <= found.total
        for name in "abcdefghij":
            assert counts.get(name, 0) <= exact[name] <= counts.get(name, 0) + found.error
        assert frequent.read_frequent(found) == found


@given(a=counted, b=counted, counters=st.integers(1, 6))
def test_frequent_devices_merge_in_either_order(a, b, counters):
    """Two sketches say the same whichever comes first; exact as long as counters suffice."""
    x, y = (frequent.frequent_of(part, counters=counters) for part in (a, b))
    every = frequent.frequent_of(Counter(a) + Counter(b), counters=10)

    assert frequent.merge_frequent(x, y) == frequent.merge_frequent(y, x)
    x, y = (frequent.frequent_of(part, counters=10) for part in (a, b))
    assert frequent.merge_frequent(x, y) == every


RAW = b"raw content " * 30
GOOD = sketch([1.0, 2.0, -3.0])
FEW = distinct.distinct_of(["a", "b"])
OFTEN = frequent.frequent_of({"a": 3, "b": 1}, counters=5)
replace = msgspec.structs.replace


@pytest.mark.parametrize(
    ("read", "malformed"),
    [
        (quantiles.read_quantiles, replace(GOOD, bins=RAW)),
        (quantiles.read_quantiles, replace(GOOD, bins=RAW + b"\x80")),
        (quantiles.read_quantiles, replace(GOOD, bins=b"\xff" * 12 + b"\x01")),
        (quantiles.read_quantiles, replace(GOOD, bins=GOOD.bins[:-1])),
        (quantiles.read_quantiles, replace(GOOD, bins=b"\x81\x00" + GOOD.bins[1:])),
        (quantiles.read_quantiles, replace(GOOD, count=4)),
        (quantiles.read_quantiles, replace(GOOD, level=9)),
        (distinct.read_distinct, Distinct(RAW)),
        (distinct.read_distinct, Distinct(RAW.ljust(2048, b"."))),
        (distinct.read_distinct, Distinct(FEW.registers + b"\x01")),
        (distinct.read_distinct, Distinct(bytes(2048))),
        (frequent.read_frequent, replace(OFTEN, devices=OFTEN.devices[::-1])),
        (frequent.read_frequent, replace(OFTEN, devices=OFTEN.devices * 2)),
        (frequent.read_frequent, replace(OFTEN, error=1)),
        (frequent.read_frequent, Frequent(1, 9, 0, (DeviceCount("a", 4), DeviceCount("b", 5)))),
    ],
)
def test_a_sketch_has_one_valid_form(read, malformed):
    """Bytes that no sketch writes are refused: there is no room in them for anything else."""
    with pytest.raises(ValueError, match=r"one valid form|base 128") as raised:
        read(malformed)

    assert "raw" not in str(raised.value)
