"""A tolerance lets go of numbers that are close, and of nothing else that an answer says."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import numpy as np
from fakes.replay_world import spec
from hypothesis import given
from hypothesis import strategies as st

from headrace.schemas.fragments import numbers as numbers_of
from headrace.schemas.protocols import Scores
from headrace.serving.scorer import OnnxScorer, confidence_of, high_of
from headrace.streams.replay.definitions import Candidate
from headrace.streams.replay.recorded import Answer
from headrace.streams.replay.scoring import Compared, compare_scores

TOLERANCE = 1e-3
THRESHOLD = 0.7

near = st.floats(-0.9 * TOLERANCE, 0.9 * TOLERANCE)
far = st.sampled_from([-0.2, -2.5 * TOLERANCE, 2.5 * TOLERANCE, 0.2])
numbers = st.one_of(
    st.floats(0, 1, width=32), st.floats(THRESHOLD - TOLERANCE, THRESHOLD + TOLERANCE)
).map(np.float32)


def candidate(tolerance=TOLERANCE):
    """A pipeline with a tolerance; its model is not asked."""
    outputs = {"threshold": THRESHOLD, "values": {"extra": "extra"}}
    model = {"file": "model.onnx", "batch_tolerance": tolerance, "outputs": outputs}
    return Candidate(spec(model=model), cast("OnnxScorer", None), "")


def computed(score, extra):
    """What the model says of one row."""
    scores, extras = np.array([score], np.float32), np.array([extra], np.float32)
    return Scores(
        scores, confidence_of(scores, THRESHOLD), high_of(scores, THRESHOLD),
        np.zeros(1, np.uint8), ("model",), {"extra": extras},
    )  # fmt: skip


def text(column):
    """A number as the stage writes it: of one value there are several texts."""
    return msgspec.Raw(numbers_of(column)[0])


def answer(score, extra, **other: Any):
    """What was served of it, as it follows from these numbers, but for what is given."""
    said = computed(score, extra)
    raw = {
        "id": "0" * 32, "event_id": "e", "device_id": "d", "event_time": "t",
        "score": text(said.score), "confidence": text(said.confidence),
        "label": "anomaly" if said.high[0] else "normal", "tier": "model", "flags": (),
        "feature_age_ms": 0, "model": {"name": "m", "version": 1, "digest": "0" * 16},
        "source": "t[0]@7", "times_ms": {"device": 0, "ingest": 0, "served": 0},
        "values": {"extra": text(said.values["extra"])},
    }  # fmt: skip
    return msgspec.json.decode(msgspec.json.encode({**raw, **other}), type=Answer)


@given(numbers, numbers, near, near)
def test_numbers_within_it_and_what_follows_from_them_are_let_go(score, extra, off, extra_off):
    """On either side of the threshold, the label and the confidence are those of the one served."""
    served = np.float32(score + np.float32(off)), np.float32(extra + np.float32(extra_off))
    found = compare_scores(candidate(), computed(score, extra), [answer(*served)])
    differ = served != (score, extra)
    assert found == Compared([], {"t[0]@7"} if differ else set())


@given(numbers, numbers, near, far)
def test_each_other_difference_is_found(score, extra, off, beyond):
    """Beside a score that is let go: a label, a confidence and a value that are not its own."""
    served = np.float32(score + np.float32(off))
    by, said = candidate(), computed(score, extra)
    wrong_label = "normal" if high_of(np.array([served]), THRESHOLD)[0] else "anomaly"
    value = {"extra": float(str(np.float32(extra + np.float32(beyond))))}
    for column, other in (
        ("label", {"label": wrong_label}),
        ("confidence", {"confidence": 1.5}),
        ("values.extra", {"values": value}),
    ):
        found = compare_scores(by, said, [answer(served, extra, **other)])
        assert [one.column for one in found.differences] == [column]
        assert len(found.tolerated) == int(served != score)


@given(numbers, numbers, far)
def test_a_score_beyond_it_is_found(score, extra, beyond):
    """And is counted as no tolerated one."""
    served = np.float32(score + np.float32(beyond))
    found = compare_scores(candidate(), computed(score, extra), [answer(served, extra)])
    assert "score" in [one.column for one in found.differences]
    assert not found.tolerated


@given(numbers, numbers, near)
def test_without_it_every_bit_counts(score, extra, off):
    """The default lets go of nothing."""
    served = np.float32(score + np.float32(off))
    found = compare_scores(candidate(0.0), computed(score, extra), [answer(served, extra)])
    assert bool(found.differences) == (served != score)
    assert not found.tolerated
