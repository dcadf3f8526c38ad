"""The model that ships with `hosts` answers as it says, on telemetry that it has never seen."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from dataset import KINDS, Telemetry, load_recording
from features import featurize
from numpy.typing import NDArray
from quality import quality

from headrace.schemas.pipeline import Pipeline, load_pipeline

HOSTS = Path(__file__).parents[3] / "examples" / "hosts"
HELD_OUT_RUNS = (3, 4, 7)


def session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        str(HOSTS / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )


def score(features: NDArray[np.float32]) -> NDArray[np.float32]:
    return session().run(["score"], {"features": features})[0][:, 0]


@dataclass
class Scored:
    pipeline: Pipeline
    telemetry: Telemetry
    features: NDArray[np.float32]
    scores: NDArray[np.float32]

    @property
    def unseen(self) -> NDArray[np.bool_]:
        return np.isin(self.telemetry.run, HELD_OUT_RUNS)

    def quality(self) -> dict[str, Any]:
        rows, threshold = self.unseen, self.pipeline.model.outputs.threshold
        return quality(self.telemetry.rows(rows), self.scores[rows], threshold)


@pytest.fixture(scope="module")
def scored() -> Scored:
    pipeline = load_pipeline(HOSTS / "pipeline.toml")
    telemetry = load_recording(HOSTS / "recording.npz")
    features = featurize(pipeline, telemetry)
    return Scored(pipeline, telemetry, features, score(features))


def test_the_stated_quality_is_what_the_model_has(scored: Scored) -> None:
    """On the runs that training never saw, quality.json says what is measured here."""
    stated = json.loads((HOSTS / "quality.json").read_text())
    found = scored.quality()
    assert stated["threshold"] == scored.pipeline.model.outputs.threshold
    for name in ("precision", "recall", "roc_auc", "false_alarm_share"):
        assert found[name] == pytest.approx(stated["recorded"][name], abs=0.002), name
    assert found["rows"] == stated["recorded"]["rows"]


def test_rest_is_quiet_and_every_burn_is_found_in_two_seconds(scored: Scored) -> None:
    """Under 1 % of the rows at rest are alarms; each burn, of one core or all, is found in 2 s."""
    found = scored.quality()
    assert found["false_alarm_share"] < 0.01
    for kind in ("burn-one", "burn-all"):
        episodes = found["episodes"][kind]
        assert episodes["found"] == episodes["episodes"] > 0
        assert episodes["max_delay_s"] <= 2.0


def test_the_features_come_from_the_pipelines_own_enrichers(scored: Scored) -> None:
    """A model scored on other features than it learned from loses its quality: the test can see."""
    rows = scored.unseen
    shifted = np.roll(scored.features[rows], 1, axis=1)
    threshold = scored.pipeline.model.outputs.threshold
    wrong = quality(scored.telemetry.rows(rows), score(shifted), threshold)
    assert wrong["roc_auc"] < scored.quality()["roc_auc"] - 0.01


def test_a_device_without_a_past_is_never_an_anomaly(scored: Scored) -> None:
    """The score of each device's first 50 events is exactly 0, a busy start included."""
    checked = 0
    for run in np.unique(scored.telemetry.run):
        for device in np.unique(scored.telemetry.device[scored.telemetry.run == run]):
            rows = (scored.telemetry.run == run) & (scored.telemetry.device == device)
            assert not scored.scores[rows][:50].any()
            checked += 1
    assert checked > 50


def test_golden_pairs_hold() -> None:
    """golden.json was made by this very model file, and spans low and high scores."""
    golden = json.loads((HOSTS / "golden.json").read_text())
    expected = np.array(golden["scores"])
    found = score(np.array(golden["inputs"], np.float32))
    assert np.abs(found - expected).max() <= golden["tolerance"]
    assert expected.min() < 0.01
    assert expected.max() > 0.99


def test_the_signature_is_what_the_pipeline_feeds(scored: Scored) -> None:
    """One float tensor of as many columns as model.inputs names, one score out."""
    (given,), (answer,) = session().get_inputs(), session().get_outputs()
    assert (given.name, given.type) == ("features", "tensor(float)")
    assert given.shape[1] == len(scored.pipeline.model_inputs)
    assert answer.shape[1] == 1


@pytest.mark.parametrize("rows", [1, 7, 16, 48, 1000])
def test_scores_do_not_depend_on_the_batch(scored: Scored, rows: int) -> None:
    """Cut anyhow and padded to a multiple of 16, every row scores bit for bit the same."""
    features = scored.features[:4000]
    whole, cut = score(features), []
    run = session().run
    for start in range(0, len(features), rows):
        part = features[start : start + rows]
        padded = np.zeros((-(-len(part) // 16) * 16, part.shape[1]), np.float32)
        padded[: len(part)] = part
        cut.append(run(["score"], {"features": padded})[0][: len(part), 0])
    assert np.array_equal(np.concatenate(cut), whole)


def test_no_feature_value_makes_a_score_that_is_no_probability() -> None:
    """However far out the input, the score stays within 0 and 1."""
    chance = np.random.default_rng(5)
    inputs = len(load_pipeline(HOSTS / "pipeline.toml").model_inputs)
    wild = chance.normal(0, 10.0 ** chance.integers(-3, 12, (2000, 1)), (2000, inputs))
    found = score(wild.astype(np.float32))
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1


def test_every_kind_of_device_is_in_the_recording(scored: Scored) -> None:
    """The stated quality is about all kinds, not about the easy ones."""
    kinds = scored.telemetry.kind[scored.unseen & (scored.telemetry.label == 0)]
    assert set(kinds.tolist()) == set(range(len(KINDS)))
