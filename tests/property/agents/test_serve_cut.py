"""However the log is cut into blocks and batches, and begun anew: one result."""

import asyncio
import itertools

import numpy as np
from fakes.serve_world import RAISES, Run, agent, block, pipeline, records
from hypothesis import given, settings
from hypothesis import strategies as st

ROWS = 150


def whole(seed):
    """A log of rows, one of them refused, some after their window was released."""
    made = block(ROWS, seed=seed)
    made.features = made.features.copy()
    made.features[seed % ROWS, 0] = RAISES
    made.metrics = made.features * 1e3
    made.metrics[::9, 0] = np.nan
    made.event_times_ms[seed % 7 :: 11] -= 20_000
    return made


def cut(rows, cuts):
    edges = sorted({0, rows, *(c % rows for c in cuts)})
    return list(itertools.pairwise(edges))


def outcome(run):
    dead = [v for t, os in run.published.items() if "deadletter" in t for o in os for v in o.values]
    assert run.store == dict(run.state.dump())
    return run.values("predictions"), run.parts(), run.values("summaries"), dead, run.store


def begun():
    """A run that keeps every sketch."""
    sketches = {"quantiles": True, "distinct": True, "frequent": 2}
    return Run(agent(pipeline(summary=sketches)))


async def in_batches(blocks, cuts):
    run = begun()
    for start, stop in cut(len(blocks), cuts):
        await run.batch(*blocks[start:stop], offset=start)
    return outcome(run)


cuts = st.lists(st.integers(0, 10_000), max_size=12)


@given(seed=st.integers(0, 500), of_blocks=cuts, of_batches=cuts)
@settings(max_examples=40, deadline=None)
def test_any_cut_gives_the_same_bytes(seed, of_blocks, of_batches):
    """Predictions, parts, summaries, dead letters and checkpoint are equal to the letter."""
    log = whole(seed)
    one = asyncio.run(in_batches([log], []))
    blocks = [log.slice(a, b) for a, b in cut(ROWS, of_blocks)]

    assert asyncio.run(in_batches(blocks, of_batches)) == one


@given(seeds=st.lists(st.integers(0, 500), min_size=2, max_size=4), of_blocks=cuts)
@settings(max_examples=12, deadline=None)
def test_lanes_that_begin_in_the_same_turn_change_nothing_for_one_another(seeds, of_blocks):
    """They share a call of the model; each of the logs has a row that the model refuses."""
    logs = [whole(seed) for seed in seeds]
    alone = [asyncio.run(in_batches([log], [])) for log in logs]

    async def side_by_side():
        runs = [begun() for _ in logs]
        for run in runs:
            run.agent = runs[0].agent
        for at, (start, stop) in enumerate(cut(ROWS, of_blocks)):
            parts = [log.slice(start, stop) for log in logs]
            await asyncio.gather(*[r.batch(p, offset=at) for r, p in zip(runs, parts, strict=True)])
        return [outcome(run) for run in runs]

    assert asyncio.run(side_by_side()) == alone


@given(
    seed=st.integers(0, 500),
    steps=st.lists(st.tuples(st.integers(0, ROWS - 1), st.integers(1, ROWS)), max_size=10),
)
@settings(max_examples=40, deadline=None)
def test_overlapping_blocks_serve_each_row_once(seed, steps):
    """ENRICH begins again at or below where it was and cuts anew: nothing is served twice."""
    log = whole(seed)
    one = asyncio.run(in_batches([log], []))
    blocks, reached = [], 0
    for back, length in steps:
        start = max(0, reached - back)
        blocks.append(log.slice(start, min(ROWS, start + length)))
        reached = max(reached, min(ROWS, start + length))
    blocks.append(log.slice(reached // 2, ROWS))

    assert asyncio.run(in_batches(blocks, range(len(blocks)))) == one


@given(seed=st.integers(0, 500), of_blocks=cuts, restarts=st.sets(st.integers(0, 12)))
@settings(max_examples=40, deadline=None)
def test_a_restart_from_any_checkpoint_changes_nothing(seed, of_blocks, restarts):
    """State is loaded from the store between batches; the batch before is offered once more."""
    log = whole(seed)
    one = asyncio.run(in_batches([log], []))
    blocks = [log.slice(a, b) for a, b in cut(ROWS, of_blocks)]

    async def restarted():
        run = begun()
        for at, made in enumerate(blocks):
            await run.batch(made, offset=at)
            if at in restarts:
                run.state.load(list(run.store.items()))
                await run.batch(made, offset=at)
        return outcome(run)

    assert asyncio.run(restarted()) == one


@given(
    seed=st.integers(0, 500),
    rests=st.lists(st.tuples(st.integers(0, ROWS), st.integers(0, 90_000)), max_size=6),
    of_batches=cuts,
    restarts=st.sets(st.integers(0, 12)),
)
@settings(max_examples=40, deadline=None)
def test_rests_close_the_same_windows_however_the_log_is_read(seed, rests, of_batches, restarts):
    """Records that say that the partition rested count at their place and by their logged time."""
    log = whole(seed)
    places = sorted(rests)
    edges = [0, *(place for place, _ in places), ROWS]
    values, times = [], []
    for n, (start, stop) in enumerate(itertools.pairwise(edges)):
        if start < stop:
            values.append(log.slice(start, stop))
            times.append(int(log.log_times_ms[stop - 1]))
        if n < len(places):
            values.append(block(0))
            times.append(int(log.log_times_ms[max(stop - 1, 0)]) + places[n][1])
    read = records(*values)
    read.log_times_ms = np.array(times)

    async def through(parts, restarts=frozenset()):
        run = Run(agent(pipeline(summary={"idle_s": 20.0})))
        for at, (start, stop) in enumerate(parts):
            part = read.slice(start, stop)
            await run.take(await run.agent.process(run.state, part, rebuilt=False))
            if at in restarts:
                run.state.load(list(run.store.items()))
        predictions, parts, _, dead, store = outcome(run)
        return predictions, sorted(parts, key=repr), dead, store

    one = asyncio.run(through([(0, len(read))]))
    assert asyncio.run(through(cut(len(read), of_batches), restarts)) == one
