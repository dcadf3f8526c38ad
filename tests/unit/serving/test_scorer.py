"""The scorer: labels, confidence, tiers, refused rows, and equal rows that run once."""

import asyncio

import numpy as np
import pytest
from fakes import onnx_models

from headrace.schemas.errors import ModelError, PoisonRecordsError
from headrace.serving.model import Model
from headrace.serving.scorer import OnnxScorer, confidence_of, load_scorer, new_cache
from headrace.serving.session import ModelFailedError
from headrace.serving.sharing import SharedRows


@pytest.fixture
async def scorer():
    """A factory of scorers, closed at the end."""
    made = []

    def make(content=None, cache=None, **parts):
        pipeline = onnx_models.pipeline(**parts)
        model = Model(content or onnx_models.mlp(width=4), pipeline)
        made.append(OnnxScorer(model, pipeline, cache))
        return made[-1]

    yield make
    for one in made:
        await one.close()


def rows(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 4))


async def test_high_and_confidence_follow_the_threshold(scorer):
    """At or above the threshold is high; confidence is 0.5 there and 1 at the ends."""
    made = scorer(onnx_models.looks_up(size=11), model={"outputs": {"threshold": 0.7}})
    features = np.zeros((11, 4))
    features[:, 0] = np.arange(11)

    scores = await made.score(features)

    assert scores.high.tolist() == [False] * 7 + [True] * 4
    assert scores.confidence[[0, 10]].tolist() == [1.0, 1.0]
    assert scores.confidence[7] == pytest.approx(0.5, abs=1e-6)
    assert scores.confidence.dtype == scores.score.dtype == np.float32


def test_confidence_of_an_open_scale():
    """A threshold outside 0..1 is approached from both sides, 1 is never left."""
    found = confidence_of(np.array([-1e30, -2, 0, 2, 4, 1e30], np.float32), 2.0)

    assert found.tolist() == pytest.approx([1, 5 / 6, 0.75, 0.5, 0.75, 1])
    assert confidence_of(np.array([-3, 7], np.float32), 0.5).tolist() == [1, 1]


async def test_a_confidence_output_is_taken_as_it_is(scorer):
    """Named outputs come along as columns of their own."""
    outputs = {"confidence": "probabilities", "values": {"class": "label"}}
    made = scorer(onnx_models.classifier(), model={"outputs": outputs})

    scores = await made.score(rows(5))

    assert scores.confidence.tolist() == scores.score.tolist()
    assert scores.values["class"].tolist() == (scores.score > 0.5).astype(float).tolist()


async def test_no_rows_have_no_scores(scorer):
    """An empty batch is answered without the model."""
    scores = await scorer().score(np.empty((0, 4)))

    assert len(scores.score) == len(scores.tier) == 0


async def test_another_width_is_fatal(scorer):
    """Features that were not arranged for this model are a fault of the code, not of a row."""
    with pytest.raises(ModelError, match=r"shape \(2, 3\), expected \(N, 4\)"):
        await scorer().score(np.zeros((2, 3)))


async def test_rows_without_a_finite_score_are_named(scorer):
    """Nothing is labelled normal for want of a score: exactly these rows are refused."""
    features = np.ones((6, 4))
    features[[1, 4], 2] = -1.0

    with pytest.raises(PoisonRecordsError) as raised:
        await scorer(onnx_models.logarithm()).score(features)

    assert raised.value.rows == {1: "model.failed", 4: "model.failed"}


async def test_a_failing_row_fails_its_caller_alone(scorer):
    """Two callers share a session call; the one whose row the model refuses is the one told."""
    made = scorer(onnx_models.looks_up())
    bad = np.full((3, 4), 1000.0)

    good, failed = await asyncio.gather(
        made.score(np.zeros((5, 4))), made.score(bad), return_exceptions=True
    )

    assert good.score.tolist() == [0.0] * 5
    assert isinstance(failed, ModelFailedError)


async def test_equal_rows_run_once_and_say_so(scorer):
    """With the cache on, repeats of a batch and later ones are answered without the model."""
    made = scorer(serving={"cache": "on"})
    features = rows(3)[[0, 1, 0, 2, 1]]

    first = await made.score(features)
    again = await made.score(features)

    assert made.batcher.rows == 3
    assert [first.tiers[t] for t in first.tier] == ["light", "light", "cache", "light", "cache"]
    assert [again.tiers[t] for t in again.tier] == ["cache"] * 5
    assert again.score.tobytes() == first.score.tobytes()
    assert made.cache_share() == 7 / 10
    assert made.batcher.cpu_s > 0
    # Two rows were repeats of the one call's three, which had run by then, and five came later.
    assert made.saved_cpu_s == pytest.approx(7 * made.batcher.cpu_s / 3)


async def test_rows_in_flight_run_once(scorer):
    """Callers at the same moment with the same rows share one run."""
    made = scorer(serving={"cache": "on"})
    features = rows(4)

    found = await asyncio.gather(*(made.score(features) for _ in range(5)))

    assert made.batcher.rows == 4
    assert len({scores.score.tobytes() for scores in found}) == 1


async def test_a_cancelled_caller_takes_no_answer_from_those_who_share_its_rows(scorer):
    """The first caller owns nothing: others waiting for its rows are answered."""
    made = scorer(serving={"cache": "on"})
    features = rows(4)
    first = asyncio.create_task(made.score(features))
    await asyncio.sleep(0)
    second = asyncio.create_task(made.score(features))
    await asyncio.sleep(0)
    first.cancel()

    scores = await asyncio.wait_for(second, 10)

    assert len(scores.score) == 4
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_caller_who_borrowed_from_a_failed_flight_runs_its_rows_itself(scorer):
    """One caller's bad row fails neither the good rows nor the caller who shares them."""
    made = scorer(onnx_models.looks_up(), serving={"cache": "on"})
    good = np.zeros((1, 4))
    bad = np.full((1, 4), 1000.0)

    failed, scores = await asyncio.gather(
        made.score(np.concatenate([good, bad])), made.score(good), return_exceptions=True
    )

    assert isinstance(failed, ModelFailedError)
    assert scores.score.tolist() == [0.0]
    assert [scores.tiers[t] for t in scores.tier] == ["light"]


async def test_a_failure_is_not_remembered(scorer):
    """What failed in flight is asked again, not answered from the cache."""
    calls = []

    async def run(asked):
        calls.append(len(asked))
        if len(calls) == 1:
            raise ModelFailedError(model="press", rows=len(asked), found="Fail")
        return np.ones((len(asked), 1), np.float32)

    cache = new_cache(onnx_models.pipeline(), 1)
    shared = SharedRows(run, cache, model_digest="a", width=1)
    asked = np.ones((2, 4), np.float32)
    with pytest.raises(ModelFailedError):
        await shared.run(asked)

    assert (await shared.run(asked)).outputs.tolist() == [[1], [1]]
    assert calls == [1, 1]


async def test_another_model_never_hits(scorer):
    """A cache shared by two models answers each from its own rows only."""
    cache = new_cache(onnx_models.pipeline(), 1)
    on = {"serving": {"cache": "on"}}
    one = scorer(onnx_models.mlp(width=4, seed=1), cache, **on)
    two = scorer(onnx_models.mlp(width=4, seed=2), cache, **on)
    features = rows(4)

    first = await one.score(features)
    second = await two.score(features)

    assert two.batcher.rows == 4
    assert first.score.tobytes() != second.score.tobytes()


async def test_auto_switches_itself_off_for_a_cheap_model(scorer):
    """Distinct rows of a small network cost more to look up than to run."""
    made = scorer()
    for seed in range(5):
        await made.score(rows(4096, seed))

    assert made.cache_share() is None
    assert made.batcher.rows == 5 * 4096
    assert made.cache_share() is None


async def test_off_keeps_no_cache(scorer):
    """`cache = "off"` answers everything from the model."""
    made = scorer(serving={"cache": "off"})
    await made.score(rows(3)[[0, 0, 0]])

    assert made.batcher.rows == 3
    assert made.cache_share() is None


async def test_a_closed_scorer_refuses():
    """Whoever asks after the end is told so at once."""
    pipeline = onnx_models.pipeline()
    made = OnnxScorer(Model(onnx_models.mlp(width=4), pipeline), pipeline)
    await made.score(rows(2))
    await made.close()

    with pytest.raises(ModelError, match="closed"):
        await made.score(rows(2, seed=1))


async def test_load_reads_checks_and_names_the_model(tmp_path):
    """A loaded scorer has passed its checks and knows its identity."""
    (tmp_path / "model.onnx").write_bytes(onnx_models.mlp(width=4))
    made = load_scorer(onnx_models.pipeline(model={"version": 3}), tmp_path)

    assert (made.model.name, made.model.version, len(made.model.digest)) == ("press", 3, 8)
    assert len((await made.score(rows(7))).score) == 7
    await made.close()


def test_load_refuses_a_model_that_is_not_invariant(tmp_path):
    """Checks run before anything is served."""
    (tmp_path / "model.onnx").write_bytes(onnx_models.dynamic_int8())

    with pytest.raises(ModelError, match="dynamic quantization"):
        load_scorer(onnx_models.pipeline(), tmp_path)
