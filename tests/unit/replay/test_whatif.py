"""Old events through another model, threshold or pipeline; the report against plain counting."""

from __future__ import annotations

import numpy as np
import pytest
from fakes.onnx_models import mlp
from fakes.replay_world import World
from fakes.services import without
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.streams.cli.replay_whatif import lines
from headrace.streams.replay.comparison import compare
from headrace.streams.replay.difference_report import report, side_by_side
from headrace.streams.replay.otherwise import Change, otherwise
from headrace.streams.replay.ranges import Plan, Span, Wanted
from headrace.streams.replay.sides import Pairs, Side, pair_up
from headrace.streams.replay.whatif import try_otherwise

OTHER = """
name = "other"
input = { metrics = { load = {}, heat = { required = false } }, allowed_lateness_s = 5.0 }
views.v.features = [{ op = "ewma", metrics = ["load"], alpha = 0.5 }]
model.file = "model.onnx"
topics.partitions = 1
"""


@pytest.fixture
async def world(tmp_path):
    """Two lives, with a stretch published twice."""
    made = World(tmp_path, seed=4)
    made.send(120)
    await made.live()
    made.send(120)
    await made.live(repeat=20)
    return made


async def asked(world, change, span=None):
    """The report of a change, and what came of it."""
    span = span or Span(0, 0, len(world.logs.log(world.source, 0).values))
    past = world.past()
    other, changed = await otherwise(past, change)
    tried = await try_otherwise(past, other, [span], said=lambda count: None)
    await past.definitions.close()
    await other.candidate.scorer.close()
    plan = Plan(topic=world.source, wanted=Wanted(), spans=(span,))
    return report("press", plan, other, tried, changed=changed), tried


async def test_the_same_again_is_the_same(world, tmp_path):
    """The model that served: every score to the bit, no flip, and the cost of both."""
    found, tried = await asked(world, Change(model=tmp_path / "model.onnx"))
    c = found.comparison

    assert c.events == c.shift.equal > 200
    assert (c.agreement, c.gained, c.lost, c.only_served, c.only_other) == (1.0, 0, 0, 0, 0)
    assert (c.shift.mean, c.shift.largest, c.shift.largest_at, c.shift.ks) == (0, 0, None, 0)
    assert found.costs.other_us_per_row > 0 < found.costs.now_us_per_row
    assert len(tried.waits_ms) >= c.events
    assert not found.asked.features_changed
    assert found.notes == []


async def test_another_threshold_flips_what_lies_between(world):
    """Scores stay; labels between the two thresholds flip, and no other."""
    found, tried = await asked(world, Change(threshold=0.6))
    c, between = found.comparison, (tried.pairs.ours >= 0.5) & (tried.pairs.ours < 0.6)

    assert c.shift.equal == c.events
    assert (c.gained, c.lost) == (0, int(between.sum()))
    assert c.lost > 0
    assert sum(one.lost for one in c.devices) == sum(one.lost for one in c.times) == c.lost


async def test_another_model_and_other_features(world, tmp_path):
    """A pipeline of other features is computed from the log; what it says stands beside."""
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(mlp(1, seed=9))
    (folder / "other.toml").write_text(OTHER)
    found, tried = await asked(world, Change(pipeline=folder / "other.toml"))

    assert found.asked.features_changed
    assert found.comparison.events > 200
    assert found.comparison.shift.equal < found.comparison.events
    assert found.costs.now_us_per_row is None
    assert side_by_side(tried).count(b"\n") == found.comparison.events + 1
    assert any("events side by side" in line for line in lines(found))


async def test_a_range_without_events(world):
    """Nothing side by side is a report of nothing, in words and numbers."""
    found, _ = await asked(world, Change(threshold=0.6), Span(0, 240, 240))

    assert found.comparison.events == 0
    assert found.comparison.agreement is None
    assert lines(found)


async def test_the_plot_is_a_picture_of_its_own(world):
    """SVG without a link to anything, the same bytes for the same report."""
    try:
        from headrace.streams.replay.plot import draw

        found, tried = await asked(world, Change(threshold=0.6))
        first = draw(tried.pairs, found.comparison, title="press")
    except Exception as error:
        if type(error).__name__ != "MissingExtraError":
            raise
        without("matplotlib is not installed; install the extra `plots`")
    assert first.startswith(b"<?xml")
    assert first == draw(tried.pairs, found.comparison, title="press")
    assert b"anomalies in" in first
    assert b'href="http' not in first


events = st.lists(
    st.tuples(
        st.integers(0, 60),
        st.sampled_from("abc"),
        st.integers(0, 200_000),
        st.floats(0, 1, width=32),
    ),
    max_size=40,
)


def side(rows, threshold):
    """One side; a later row of an offset takes the place of an earlier one."""
    made = Side.begin()
    for offset, name, at_ms, score in rows:
        high = np.array([score >= threshold])
        made.add(np.array([offset]), np.array([at_ms]), [name], np.array([score]), high)
    return made.end()


@settings(max_examples=60, deadline=None)
@given(events, events, st.floats(0.1, 0.9))
def test_the_report_counts_what_plain_counting_does(ours, theirs, threshold):
    """Pairs, agreement, flips by device and by time, and the largest shift."""
    pairs = pair_up(3, side(ours, 0.5), side(theirs, threshold))
    found = compare(pairs)
    a = {row[0]: row for row in ours}
    b = {row[0]: row for row in theirs}
    both = sorted(a.keys() & b.keys())
    gained = [k for k in both if a[k][3] < 0.5 and b[k][3] >= threshold]
    lost = [k for k in both if a[k][3] >= 0.5 and b[k][3] < threshold]

    assert found.events == len(both)
    assert (found.only_served, found.only_other) == (len(a) - len(both), len(b) - len(both))
    assert (found.gained, found.lost) == (len(gained), len(lost))
    assert {d.device_id: (d.gained, d.lost) for d in found.devices} == {
        n: (sum(a[k][1] == n for k in gained), sum(a[k][1] == n for k in lost))
        for n in {a[k][1] for k in both}
    }
    assert sum(t.events for t in found.times) == len(both)
    assert sum(t.gained for t in found.times) == len(gained)
    assert len(found.times) <= 61
    if both:
        assert found.shift.largest == max(abs(b[k][3] - a[k][3]) for k in both)
        assert found.agreement == (len(both) - len(gained) - len(lost)) / len(both)


def test_partitions_are_joined_one_after_another():
    """Counts add up, and nothing at all is a report too."""
    parts = [
        pair_up(p, side([(1, "a", 5, 0.7)], 0.5), side([(1, "a", 5, 0.2)], 0.5)) for p in (0, 1)
    ]
    assert compare(Pairs.joined(parts)).lost == 2
    assert compare(Pairs.joined([])).events == 0
