"""Partitions in whatever order, cut and repetition: one answer, that of one partition."""

import asyncio
import functools
import itertools
import random

import msgspec
import numpy as np
import pytest
from fakes.serve_world import Final, agent, block, pipeline, records
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.block import Labels
from headrace.schemas.summary import SummaryRecord

ROWS, PARTITIONS, DEVICES = 120, 3, 12
SKETCHES = {"quantiles": True, "distinct": True, "frequent": 3}


def spec(partitions, **summary):
    return pipeline(
        summary=SKETCHES | {"idle_s": 20.0, "amend_s": 1e6} | summary,
        topics={"partitions": partitions},
    )


def log_of(seed, *, late=False):
    """Rows of devices in time order; where asked for, some after their window was closed."""
    draw = np.random.default_rng(seed)
    devices = draw.integers(0, DEVICES, ROWS)
    made = block(
        ROWS,
        seed=seed,
        entities=Labels.encode([f"dev-{d}" for d in devices]),
        event_times_ms=1_000_000 + np.sort(draw.integers(0, 90_000, ROWS)),
    )
    made.metrics = made.features * 1e3
    made.log_times_ms = made.event_times_ms + 12
    if late:
        made.event_times_ms = made.event_times_ms.copy()
        made.event_times_ms[20::7] -= 25_000
    return made, devices


async def _said(made, partition, partitions):
    """What SERVE writes of one partition's rows and of the rest after them, a list of outputs."""
    serve = agent(spec(partitions))
    state = serve.new_state("features", partition)
    made.partition = partition
    blocks = [made.slice(at, min(at + 9, len(made))) for at in range(0, len(made), 9)]
    found = []
    for each in blocks:
        found += await _values(serve, state, records(each, partition=partition))
    quiet = records(block(0, partition=partition), partition=partition)
    quiet.log_times_ms = np.array([1_250_000])
    return found + await _values(serve, state, quiet)


async def _values(serve, state, read):
    effects = await serve.process(state, read, rebuilt=False)
    effects.delta.fold()
    return [output.values for output in effects.outputs if "partials" in output.topic]


@functools.cache
def said(seed, partitions, late=False):
    """Of each partition what it writes, in order."""
    made, devices = log_of(seed, late=late)

    def part(p):
        rows = np.flatnonzero(devices % partitions == p)
        picked = made.slice(0, len(made))
        for name in ("offsets", "event_times_ms", "log_times_ms", "features", "metrics"):
            setattr(picked, name, getattr(made, name)[rows])
        picked.entities = Labels(made.entities.names, made.entities.codes[rows])
        kind = made.attributes["kind"]
        picked.attributes = {"kind": Labels(kind.names, kind.codes[rows])}
        picked.event_ids = [made.event_ids[row] for row in rows.tolist()]
        return asyncio.run(_said(picked, p, partitions))

    return [part(p) for p in range(partitions)]


def mixed(seed, logs, *, again=False):
    """The logs as one, each in its order; where asked for, pieces of them are written again."""
    draw = random.Random(seed)
    if again:
        logs = [list(_repeated(draw, log)) for log in logs]
    turns = [number for number, log in enumerate(logs) for _ in log]
    draw.shuffle(turns)
    each = [iter(log) for log in logs]
    return [value for turn in turns for value in next(each[turn])]


def _repeated(draw, log):
    """After some output, the last few again, the first of them torn, as after a crash."""
    for at, values in enumerate(log):
        yield values
        if draw.random() < 0.3:
            back = max(0, at - draw.randrange(3))
            yield log[back][: draw.randrange(len(log[back])) + 1]
            yield from log[back : at + 1]


def released(values, partitions, *, cuts=(), restarts=(), **summary):
    """Every summary of a partials log that is read in these batches."""

    async def run():
        final = Final(spec(partitions, **summary))
        edges = sorted({0, len(values), *(c % len(values) for c in cuts)})
        for n, (start, stop) in enumerate(itertools.pairwise(edges)):
            await final.batch(values[start:stop], offset=start)
            assert final.store == dict(final.state.dump())
            if n in restarts:
                final.state.load(list(final.store.items()))
        return final

    final = asyncio.run(run())
    return [msgspec.json.decode(value, type=SummaryRecord) for value in final.values()], final


def answers(found):
    """The last revision of each window and group, without its number."""
    last = {(s.window_start_ms, s.group): s for s in found}
    return {key: msgspec.structs.replace(s, rev=0) for key, s in last.items()}


def bare(record):
    """All that is exact; the digest is of the pipeline file, which names the partitions."""
    extremes = {n: (m.count, m.min, m.max) for n, m in record.metrics.items()}
    none = msgspec.structs.replace(record, score=None, metrics={}, pipeline_digest="")
    return none, extremes, (record.score.count, record.score.min, record.score.max)


cuts = st.lists(st.integers(0, 10_000), max_size=8)


@given(seed=st.integers(0, 20), order=st.integers(0, 10**6), cuts=cuts, again=st.booleans())
@settings(max_examples=12, deadline=None)
def test_every_window_is_released_once_and_with_the_same_bits(seed, order, cuts, again):
    """In any order of the partitions, cut, with restarts and with what a crash writes again."""
    one, _ = released(mixed(0, said(seed, PARTITIONS)), PARTITIONS)
    log = mixed(order, said(seed, PARTITIONS), again=again)
    found, final = released(log, PARTITIONS, cuts=cuts, restarts={0, 2, 3})

    assert sorted(map(repr, found)) == sorted(map(repr, one))
    assert {s.rev for s in found} == {0}
    assert len(found) == len(answers(found))
    assert final.counts["out"] == ROWS == sum(s.rows for s in found)


@given(seed=st.integers(0, 20), order=st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_partitions_say_what_one_partition_says(seed, order):
    """Sketches, counts, extremes, top to the letter; means and sums of squares up to rounding."""
    parts, _ = released(mixed(order, said(seed, PARTITIONS)), PARTITIONS)
    whole, _ = released(mixed(0, said(seed, 1)), 1)
    ours, theirs = answers(parts), answers(whole)

    assert ours.keys() == theirs.keys()
    for key, record in ours.items():
        assert bare(record) == bare(theirs[key])
        for name in record.metrics:
            assert record.metrics[name].mean == pytest.approx(theirs[key].metrics[name].mean)
            assert record.metrics[name].m2 == pytest.approx(theirs[key].metrics[name].m2)


@given(seed=st.integers(0, 20), order=st.integers(0, 10**6), cuts=cuts, again=st.booleans())
@settings(max_examples=12, deadline=None)
def test_late_rows_amend_to_the_same_last_answer(seed, order, cuts, again):
    """Which revision they come in hangs on the order; the last one does not, nor any on the cut."""
    one, _ = released(mixed(0, said(seed, PARTITIONS, True)), PARTITIONS)
    log = mixed(order, said(seed, PARTITIONS, True), again=again)
    whole, _ = released(log, PARTITIONS)
    found, final = released(log, PARTITIONS, cuts=cuts, restarts={0, 1, 4})

    assert found == whole
    assert answers(found) == answers(one)
    assert final.counts["out"] == ROWS == sum(s.rows for s in answers(found).values())
    for key in answers(found):
        revisions = [s.rev for s in found if (s.window_start_ms, s.group) == key]
        assert revisions == list(range(len(revisions)))


@given(
    seed=st.integers(0, 20),
    order=st.integers(0, 10**6),
    cuts=cuts,
    amend_s=st.sampled_from([1.0, 15.0, 30.0, 50.0]),
    min_group=st.integers(1, 4),
)
@settings(max_examples=12, deadline=None)
def test_no_cut_changes_what_is_forgotten(seed, order, cuts, amend_s, min_group):
    """Every row is in a last answer or counted as unsummarized, and no amendment is of too few."""
    asked = {"amend_s": amend_s, "min_group": min_group}
    log = mixed(order, said(seed, PARTITIONS, True))
    whole, _ = released(log, PARTITIONS, **asked)
    found, final = released(log, PARTITIONS, cuts=cuts, restarts={0, 1, 4}, **asked)

    assert found == whole
    told = sum(s.rows for s in answers(found).values())
    kept = [group for groups in final.state.windows.values() for group in groups.values()]
    waiting = ROWS - told - final.counts.get("unsummarized", 0)
    assert (waiting > 0) == any(window.waits for window in kept)
    assert waiting >= 0
