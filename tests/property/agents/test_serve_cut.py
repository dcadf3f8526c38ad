"""However the log is cut into blocks and batches, and begun anew: one result."""

import asyncio
import itertools

import numpy as np
from fakes.serve_world import RAISES, Run, block
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
    return run.values("predictions"), run.values("summaries"), dead, run.store


async def in_batches(blocks, cuts):
    run = Run()
    for start, stop in cut(len(blocks), cuts):
        await run.batch(*blocks[start:stop], offset=start)
    return outcome(run)


cuts = st.lists(st.integers(0, 10_000), max_size=12)


@given(seed=st.integers(0, 500), of_blocks=cuts, of_batches=cuts)
@settings(max_examples=60, deadline=None)
def test_any_cut_gives_the_same_bytes(seed, of_blocks, of_batches):
    """Predictions, summaries, dead letters and checkpoint are equal to the letter."""
    log = whole(seed)
    one = asyncio.run(in_batches([log], []))
    blocks = [log.slice(a, b) for a, b in cut(ROWS, of_blocks)]

    assert asyncio.run(in_batches(blocks, of_batches)) == one


@given(
    seed=st.integers(0, 500),
    steps=st.lists(st.tuples(st.integers(0, ROWS - 1), st.integers(1, ROWS)), max_size=10),
)
@settings(max_examples=60, deadline=None)
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
@settings(max_examples=60, deadline=None)
def test_a_restart_from_any_checkpoint_changes_nothing(seed, of_blocks, restarts):
    """State is loaded from the store between batches; the batch before is offered once more."""
    log = whole(seed)
    one = asyncio.run(in_batches([log], []))
    blocks = [log.slice(a, b) for a, b in cut(ROWS, of_blocks)]

    async def restarted():
        run = Run()
        for at, made in enumerate(blocks):
            await run.batch(made, offset=at)
            if at in restarts:
                run.state.load(list(run.store.items()))
                await run.batch(made, offset=at)
        return outcome(run)

    assert asyncio.run(restarted()) == one
