"""Scores are the same bits however rows are cut, ordered, joined, repeated or cached."""

import asyncio
import itertools

import numpy as np
import pytest
from fakes import onnx_models
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.serving.model import Model
from headrace.serving.scorer import OnnxScorer

POOL = 60
CONTENTS = {
    "mlp": onnx_models.mlp(width=4),
    "trees": onnx_models.trees(),
    "softmax": onnx_models.classifier(),
}


def features():
    """A pool of rows, some equal, some with missing values, some of another scale."""
    pool = np.random.default_rng(5).normal(size=(POOL, 4))
    pool[::7] *= 1e4
    pool[3] = pool[4]
    pool[5, 2] = np.nan
    return pool


POOL_ROWS = features()
picks = st.lists(st.integers(0, POOL - 1), min_size=1, max_size=200)


def scorer(content, **serving):
    pipeline = onnx_models.pipeline(serving=serving)
    return OnnxScorer(Model(content, pipeline), pipeline)


async def score_parts(made, parts):
    try:
        found = await asyncio.gather(*(made.score(POOL_ROWS[part]) for part in parts))
        return np.concatenate([s.score for s in found]), np.concatenate(
            [s.confidence for s in found]
        )
    finally:
        await made.close()


def scores(content, parts, **serving):
    return asyncio.run(score_parts(scorer(content, **serving), parts))


ALONE = {
    name: scores(content, [[row] for row in range(POOL)], cache="off", max_batch_rows=1)
    for name, content in CONTENTS.items()
}


def cut(rows, cuts):
    edges = sorted({0, len(rows), *(c % len(rows) for c in cuts)})
    return [rows[a:b] for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("name", CONTENTS)
@given(
    rows=picks,
    cuts=st.lists(st.integers(0, 200), max_size=6),
    cache=st.sampled_from(["on", "off", "auto"]),
    most=st.sampled_from([1, 16, 50, 16_384]),
)
@settings(max_examples=40, deadline=None)
def test_bits_do_not_depend_on_cut_company_or_cache(name, rows, cuts, cache, most):
    """Concurrent callers, any batch size, cache on or off: each row scores as it does alone."""
    found, confidence = scores(CONTENTS[name], cut(rows, cuts), cache=cache, max_batch_rows=most)

    assert found.tobytes() == ALONE[name][0][rows].tobytes()
    assert confidence.tobytes() == ALONE[name][1][rows].tobytes()


@given(batches=st.lists(picks, min_size=1, max_size=6), size=st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_a_small_cache_that_evicts_changes_no_bit(batches, size):
    """Batch after batch through a cache that is far too small."""

    async def one_after_another():
        made = scorer(CONTENTS["mlp"], cache="on", cache_rows=size)
        try:
            return [(await made.score(POOL_ROWS[b])).score for b in batches]
        finally:
            await made.close()

    for batch, found in zip(batches, asyncio.run(one_after_another()), strict=True):
        assert found.tobytes() == ALONE["mlp"][0][batch].tobytes()
