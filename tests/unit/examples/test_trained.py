"""Press, wearables and shops: what is simulated, what comes of it, what the models are worth."""

from __future__ import annotations

import importlib.util
import json
import re
from collections import Counter

import numpy as np
import pytest
from fakes.examples import EXAMPLES, simulated
from fit import golden, score
from labelled import NORMAL, UNJUDGED, Sent, load_simulation
from measures import judged
from stream import Featured, featured
from worth import worth

from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.serving.scorer import load_scorer

NAMES = ("press", "wearables", "shops")
SEED = 3
"""Of neither training nor the stated quality."""
SIZES = {
    "press": {"count": 12, "minutes": 12.0},
    "wearables": {"count": 15, "minutes": 70.0},
    "shops": {"count": 6, "minutes": 90.0},
}


class Example:
    """One example, and telemetry that its model has never seen."""

    def __init__(self, name: str) -> None:
        self.name, self.folder = name, EXAMPLES / name
        self.pipeline: Pipeline = load_pipeline(self.folder / "pipeline.toml")
        self.log: list[Sent] = simulated(name, SEED, **SIZES[name])
        self.found: Featured = featured(self.folder / "pipeline.toml", self.log)
        self.model = (self.folder / self.pipeline.model.file).read_bytes()
        self.stated = json.loads((self.folder / "quality.json").read_text("utf-8"))


@pytest.fixture(scope="module", params=NAMES)
def example(request: pytest.FixtureRequest) -> Example:
    """Each in turn."""
    return Example(request.param)


def test_the_same_seed_sends_the_same_bytes(example: Example) -> None:
    """Training can be repeated; another seed is another world."""
    size = {"count": 3, "minutes": 25.0}
    one, two, other = (
        [(sent.at_ms, sent.value()) for sent in simulated(example.name, seed, **size)]
        for seed in (7, 7, 8)
    )
    assert one == two
    assert one != other


def test_every_record_becomes_one_thing_and_none_is_refused(example: Example) -> None:
    """sent = out + late + repeated; only wearables are late or come twice, and those do."""
    found, repeats = example.found, Counter(sent.event["id"] for sent in example.log)

    assert len(example.log) == len(found.sent) + found.late + found.repeated
    assert found.dead == 0
    assert len({sent.event["id"] for sent in found.sent}) == len(found.sent)
    twice = max(repeats.values()) > 1
    assert (found.repeated > 0, found.late > 0, twice) == ((example.name == "wearables",) * 3)


def test_what_is_planted_is_in_the_labels_and_not_in_the_events(example: Example) -> None:
    """Each kind of episode occurs and is judged; no event tells what it is."""
    kinds = {sent.kind for sent in example.log if sent.label == 1}

    assert kinds == set(example.stated["recall_by_kind"])
    assert {sent.kind for sent in example.log if sent.label == 0} == {NORMAL}
    assert UNJUDGED in {sent.label for sent in example.log}
    for sent in example.log:
        text = sent.value().decode()
        assert not any(f'"{kind}"' in text for kind in (*kinds, "label"))


def test_personal_and_raw_fields_are_declared(example: Example) -> None:
    """Every top-level field is one the pipeline reads, or declared raw or personal."""
    spec = example.pipeline.input
    read = {path.split(".")[0] for path in (spec.entity, spec.id or "", spec.time)}
    read |= {spec.metric_path(name).split(".")[0] for name in spec.metric_names}
    read |= {spec.attribute_path(name) for name in spec.attributes}

    assert spec.raw
    assert spec.personal
    for sent in example.log[:500]:
        assert set(sent.event) == read | set(spec.raw) | set(spec.personal)


def test_unseen_telemetry_is_judged_as_stated(example: Example) -> None:
    """Of a third seed, precision, recall and AUC are near those of the model card."""
    stated, found = example.stated, worth(example.folder, example.found, len(example.log))

    assert found["roc_auc"] == pytest.approx(stated["roc_auc"], abs=0.005)
    assert found["precision"] == pytest.approx(stated["precision"], abs=0.05)
    assert found["recall"] == pytest.approx(stated["recall"], abs=0.12)
    assert found["digest"] == stated["digest"]
    assert found["threshold"] == stated["threshold"]


def test_the_features_are_what_the_model_learned_from(example: Example) -> None:
    """On other columns than its own it is worth less: these tests can see a wrong feature."""
    found, threshold = example.found, example.stated["threshold"]
    shifted = np.roll(found.inputs, 1, axis=1)

    wrong = judged(found.labels, found.kinds, score(example.model, shifted), threshold)

    assert wrong["roc_auc"] < example.stated["roc_auc"] - 0.05


async def test_the_model_passes_the_workers_checks(example: Example) -> None:
    """Signature, golden pairs and batch invariance; its scores are those of training."""
    scorer = load_scorer(example.pipeline, example.folder)
    scores = await scorer.score(example.found.inputs[:3000].astype(np.float64))
    await scorer.close()

    assert example.stated["digest"].startswith(scorer.model.digest)
    assert np.array_equal(scores.score, score(example.model, example.found.inputs[:3000]))


def test_the_vector_has_one_size_and_its_ratio_to_the_record_is_stated(example: Example) -> None:
    """docs/model-owner.md has the mean record's bytes beside the vector's, and what it is worth."""
    page = (EXAMPLES.parent / "docs" / "model-owner.md").read_text("utf-8")
    sizes = [len(sent.value()) for sent in example.log]
    vectors = {row.nbytes for row in example.found.inputs}
    stated = example.stated

    assert vectors == {4 * len(example.pipeline.model_inputs)}
    row = f"| {np.mean(sizes):.0f} : {vectors.pop()} | {stated['precision']:.3f} | "
    assert f"{row}{stated['recall']:.3f} | {stated['roc_auc']:.4f} |" in page


def test_golden_pairs_are_of_this_model(example: Example) -> None:
    """They span low and high scores."""
    pairs = json.loads((example.folder / "golden.json").read_text("utf-8"))
    inputs = np.array(pairs["inputs"], np.float32)

    assert np.abs(score(example.model, inputs) - pairs["scores"]).max() <= pairs["tolerance"]
    assert (min(pairs["scores"]) < 0.05, max(pairs["scores"]) > 0.95) == (True, True)


def test_no_value_makes_a_score_that_is_no_probability(example: Example) -> None:
    """However far out the input, the score stays within 0 and 1."""
    chance, width = np.random.default_rng(5), example.found.inputs.shape[1]
    wild = chance.normal(0, 10.0 ** chance.integers(-3, 12, (2000, 1)), (2000, width))

    found = score(example.model, wild.astype(np.float32))

    assert np.isfinite(found).all()
    assert 0 <= found.min() <= found.max() <= 1


def test_the_model_card_states_what_was_measured(example: Example) -> None:
    """README.md has the digest, the threshold and the quality of quality.json."""
    page, stated = (example.folder / "README.md").read_text("utf-8"), example.stated

    assert f"`{stated['digest'][:8]}`" in page
    assert f"hreshold {stated['threshold']:g}" in page
    row = f"| {stated['precision']:.3f} | {stated['recall']:.3f} | {stated['roc_auc']:.4f} |"
    assert row in page
    for kind, recall in stated["recall_by_kind"].items():
        assert re.search(rf"\| {kind}\b.*\| {recall:.2f} \|", page), kind


@pytest.mark.slow
def test_the_stated_quality_can_be_measured_again(example: Example) -> None:
    """quality.json and golden.json are what the shipped model says of the seed for testing."""
    log = simulated(example.name, 2, **load_simulation(example.folder).TRAIN)
    unseen = featured(example.folder / "pipeline.toml", log)

    assert worth(example.folder, unseen, len(log)) == example.stated
    pairs = json.loads((example.folder / "golden.json").read_text("utf-8"))
    assert golden(example.model, unseen.inputs)["inputs"] == pairs["inputs"]


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="training needs the train extra"
)
def test_training_again_gives_the_same_file() -> None:
    """The same packages and seed give the same bytes, so the digest says what was trained."""
    from fit import fit

    chance = np.random.default_rng(1)
    inputs = chance.normal(0, 1, (4000, 5)).astype(np.float32)
    labels = (inputs[:, 0] + inputs[:, 1] > 2).astype(np.int8)

    one, two = (fit(inputs, labels, name="twice", seed=4) for _ in range(2))

    assert one == two
