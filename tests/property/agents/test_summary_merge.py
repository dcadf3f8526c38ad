"""Summaries of a window from several sites merge to what one site would have said."""

import asyncio
import itertools

import msgspec
import numpy as np
import pytest
from fakes.serve_world import Run, agent, block, pipeline
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.block import Labels
from headrace.schemas.summary import Moments, SummaryRecord
from headrace.streams.agents.moments import Running
from headrace.streams.upstream.frequent import frequent_of
from headrace.streams.upstream.merge import merge_sites, merge_summaries

TOP = 5
SKETCHES = {"quantiles": True, "distinct": True, "frequent": 20}
RELATIVE = 1e-9
"""Stated error of mean and m2 after any merging, of the largest magnitude."""

values = st.lists(
    st.floats(-1e6, 1e6, allow_nan=False) | st.sampled_from([0.0, -0.0, 1e9, -1e9, 1e-9]),
    min_size=1,
    max_size=60,
)


def close(a: Moments, b: Moments) -> bool:
    scale = max(abs(x) for x in (a.min or 0, a.max or 0, 1.0))
    return (
        (a.count, a.min, a.max) == (b.count, b.min, b.max)
        and abs(a.mean - b.mean) <= RELATIVE * scale
        and abs(a.m2 - b.m2) <= RELATIVE * scale * scale * max(a.count, 1)
    )


def same(a: SummaryRecord, b: SummaryRecord) -> bool:
    """Equal, moments within the stated error."""
    moments = [(a.score, b.score), *((a.metrics[n], b.metrics[n]) for n in a.metrics)]
    blank = Moments(0, 0.0, 0.0, None, None)
    bare = [msgspec.structs.replace(x, score=blank, metrics={}) for x in (a, b)]
    return (
        bare[0] == bare[1]
        and set(a.metrics) == set(b.metrics)
        and all(close(x, y) for x, y in moments)
    )


def folded(parts) -> Running:
    running = Running.empty(1)
    for part in parts:
        running = running.folded(np.zeros(len(part), np.intp), np.array(part, float))
    return running


@given(values=values, cuts=st.lists(st.integers(0, 59), max_size=8))
@settings(max_examples=200)
def test_moments_have_the_same_bits_for_any_cut(values, cuts):
    """Folding in any batches is folding one by one, bit for bit, also through a checkpoint."""
    edges = sorted({0, len(values), *(c % len(values) for c in cuts)})
    running = folded(values[a:b] for a, b in itertools.pairwise(edges))
    one_by_one = folded([v] for v in values)

    assert running.encode() == one_by_one.encode()
    assert Running.decode(running.encode()).encode() == running.encode()


@given(values=values)
@settings(max_examples=200)
def test_moments_are_right(values):
    """Against NumPy in extended precision."""
    (found,) = folded([values]).moments()
    exact = np.array(values, np.longdouble)
    m2 = float(((exact - exact.mean()) ** 2).sum())

    assert close(found, Moments(len(values), float(exact.mean()), m2, min(values), max(values)))


def parts_of(seed, partitions, min_group):
    """One window's summary from each of `partitions` and from all rows in one partition."""
    random = np.random.default_rng(seed)
    n = 120
    devices = random.integers(0, 15, n)
    made = block(
        n,
        event_times_ms=random.integers(0, 10_000, n),
        features=random.normal(size=(n, 2)) * 10,
        entities=Labels.encode([f"dev-{d}" for d in devices]),
        attributes={"kind": Labels.encode(["core"] * n)},
    )
    made.metrics = made.features
    end = block(1, offset=n, event_times_ms=np.array([40_000]))

    async def summary(keep):
        run = Run(agent(pipeline(summary={"min_group": min_group, "top": TOP} | SKETCHES)))
        rows = np.flatnonzero(keep)
        for row in rows.tolist():
            await run.batch(made.slice(row, row + 1))
        await run.batch(end)
        if not len(rows):
            return None
        (value,) = run.values("summaries")
        return msgspec.json.decode(value, type=SummaryRecord)

    async def everything():
        whole = await summary(np.ones(n, bool))
        parts = [await summary(devices % partitions == p) for p in range(partitions)]
        return whole, [part for part in parts if part is not None]

    return asyncio.run(everything())


@given(seed=st.integers(0, 1000), partitions=st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_parts_merge_to_the_whole(seed, partitions):
    """Counts, extremes, top, model mix and sketches exactly; moments within the stated error."""
    whole, parts = parts_of(seed, partitions, 1)
    merged = merge_summaries(parts, top=TOP)

    assert same(merged, whole)
    assert merged.score_quantiles is not None
    assert set(merged.quantiles) == {"load", "heat"}
    assert merged.distinct is not None
    assert merged.frequent is not None


@given(seed=st.integers(0, 1000), order=st.permutations(range(4)), suppress=st.sampled_from([1, 4]))
@settings(max_examples=15, deadline=None)
def test_merging_is_associative_and_commutative(seed, order, suppress):
    """Any order and any tree of merges says the same, suppressed parts among them."""
    _, parts = parts_of(seed, 4, suppress)
    shuffled = [parts[i] for i in order if i < len(parts)]
    flat = merge_summaries(parts, top=TOP)
    chain = shuffled[0]
    for part in shuffled[1:]:
        chain = merge_summaries([part, chain], top=TOP)
    middle = max(1, len(shuffled) // 2)
    halves = [half for half in (shuffled[:middle], shuffled[middle:]) if half]
    tree = merge_summaries([merge_summaries(half, top=TOP) for half in halves], top=TOP)

    assert same(flat, chain)
    assert same(flat, tree)


def test_parts_of_different_windows_do_not_merge():
    """A core that mixes windows is told so."""
    _, (first, *_) = parts_of(1, 2, 1)
    other = msgspec.structs.replace(first, window_start_ms=5)

    with pytest.raises(ValueError, match="cannot merge"):
        merge_summaries([first, other], top=TOP)


@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_a_device_at_two_sites_counts_once(seed):
    """Sites that saw the same devices: counted once, named once, all of its anomalies in a sum."""
    whole, parts = parts_of(seed, 2, 1)
    merged = merge_sites([*parts, whole], top=TOP)
    named = [device.device_id for device in merged.top]

    assert merged.devices == whole.devices
    assert len(set(named)) == len(named)
    assert merged.rows == 2 * whole.rows
    assert merged.distinct == whole.distinct
    doubled = {d.device_id: 2 * d.count for d in whole.frequent.devices}
    assert merged.frequent == frequent_of(doubled, counters=20)


def test_sites_that_send_no_sketch_are_added():
    """Nothing is known of what they share."""
    whole, parts = parts_of(3, 2, 1)
    bare = [msgspec.structs.replace(part, distinct=None) for part in (whole, *parts)]

    assert merge_sites(bare, top=TOP).devices == 2 * whole.devices


def test_a_site_that_is_suppressed_is_in_the_bounds_alone():
    """It sends no sketch, and its devices are no fewer than it says."""
    _, (part, *_) = parts_of(3, 2, 1)
    _, (hidden, *_) = parts_of(3, 1, 100)
    hidden = msgspec.structs.replace(hidden, pipeline_digest=part.pipeline_digest)
    merged = merge_sites([part, hidden], top=TOP)

    assert (hidden.suppressed, hidden.distinct) == (True, None)
    assert merged.devices == max(part.devices, hidden.devices)
