"""Train the model of the `hosts` pipeline; writes model.onnx, golden.json and quality.json.

``python examples/training train hosts``. Needs the `train` extra. Reads recording.npz (`record.py`
makes one) and the seeded simulation; the features are computed by the pipeline's own enrichers.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from changes import changes
from dataset import Telemetry, load_recording
from export import export
from features import featurize
from fit import golden, score
from numpy.typing import NDArray
from quality import quality
from simulate import simulate
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from headrace.schemas.pipeline import load_pipeline

HERE = Path(__file__).parent
HELD_OUT_RUNS = (3, 4, 7)
"""Runs that training never sees: the last of each of the two sessions, with their episodes."""
SIMULATED, TRAIN_SEED, TEST_SEED = 300, 1, 2
REST_PER_CHANGE = 8
"""Rows of rest for each row of change in training; the rest of the rest is alike."""
RECORDED_WEIGHT = 6
"""How often a recorded row counts against a simulated one."""

F32 = NDArray[np.float32]


def held_out(telemetry: Telemetry) -> NDArray[np.bool_]:
    """Rows of the recording that are for testing only."""
    return np.isin(telemetry.run, HELD_OUT_RUNS)


def choose(telemetry: Telemetry, *, seed: int) -> NDArray[np.int64]:
    """Rows to train on: every change, and a sample of the rest."""
    change = np.flatnonzero(telemetry.label == 1)
    rest = np.flatnonzero(telemetry.label == 0)
    chance = np.random.default_rng(seed)
    count = min(len(rest), REST_PER_CHANGE * len(change))
    return np.concatenate([change, chance.choice(rest, count, replace=False)])


def fit(parts: list[tuple[Telemetry, F32, int]], inputs: tuple[str, ...]) -> bytes:
    """Fit on (telemetry, features, repeats) and give the ONNX model."""
    rows, labels = [], []
    for telemetry, features, repeats in parts:
        chosen = choose(telemetry, seed=TRAIN_SEED)
        rows += [changes(features[chosen], inputs)] * repeats
        labels += [telemetry.label[chosen]] * repeats
    classifier = make_pipeline(
        StandardScaler(),
        MLPClassifier((24, 12), alpha=1e-4, batch_size=1024, max_iter=25, random_state=TRAIN_SEED),
    )
    classifier.fit(np.concatenate(rows), np.concatenate(labels))
    return export(classifier, inputs)


def judge_by_run(
    recorded: Telemetry, features: F32, simulated: Telemetry, extra: F32, inputs: tuple[str, ...]
) -> F32:
    """Scores of the recording, each run's by a model that was trained without it."""
    scores = np.zeros(len(recorded), np.float32)
    for run in np.unique(recorded.run).tolist():
        other = recorded.run != run
        parts = [
            (recorded.rows(other), features[other], RECORDED_WEIGHT),
            (simulated, extra, 1),
        ]
        scores[~other] = score(fit(parts, inputs), features[~other])
    return scores


def main() -> None:
    """Train, judge on what training never saw, and write the three files."""
    pipeline = load_pipeline(HERE / "pipeline.toml")
    inputs, threshold = pipeline.model_inputs, pipeline.model.outputs.threshold
    recorded = load_recording(HERE / "recording.npz")
    parts = {
        "recorded": recorded,
        "simulated": simulate(SIMULATED, TRAIN_SEED),
        "unseen": simulate(SIMULATED // 3, TEST_SEED),
    }
    features = {name: featurize(pipeline, part) for name, part in parts.items()}
    test = held_out(recorded)
    model = fit(
        [
            (recorded.rows(~test), features["recorded"][~test], RECORDED_WEIGHT),
            (parts["simulated"], features["simulated"], 1),
        ],
        inputs,
    )
    by_run = judge_by_run(
        recorded, features["recorded"], parts["simulated"], features["simulated"], inputs
    )
    report = {
        "threshold": threshold,
        "recorded": quality(
            recorded.rows(test), score(model, features["recorded"][test]), threshold
        ),
        "recorded_each_run_left_out": quality(recorded, by_run, threshold),
        "simulated": quality(parts["unseen"], score(model, features["unseen"]), threshold),
    }
    (HERE / "model.onnx").write_bytes(model)
    pairs = golden(model, features["recorded"][test])
    (HERE / "golden.json").write_text(json.dumps(pairs) + "\n")
    (HERE / "quality.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
