"""The served network is the network: the session's scores against plain NumPy, and pinned."""

import numpy as np
import pytest
from fakes import onnx_models

from headrace.serving.model import Model


def by_hand(features, width=4):
    """The same two layers, in float64."""
    layers = {n: w.astype(np.float64) for n, w in onnx_models._layers(width, 32, 1)}
    hidden = np.maximum(features @ layers["w1"] + layers["b1"], 0)
    return 1 / (1 + np.exp(-(hidden @ layers["w2"] + layers["b2"])))[:, 0]


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 1000])
def test_session_equals_numpy(rows):
    """Padding, slicing and the session change nothing beyond float32's rounding."""
    features = np.random.default_rng(8).normal(size=(rows, 4))
    pipeline = onnx_models.pipeline(serving={"max_batch_rows": 100})
    model = Model(onnx_models.mlp(width=4), pipeline)

    found = model.run(model.signature.rows(features))[:, 0]

    assert found == pytest.approx(by_hand(features), abs=1e-6)


def test_pinned_scores():
    """Values of one row of every kind of model: both paths being wrong alike would show here."""
    row = np.array([[0.5, -1.0, 2.0, 0.25]])
    found = {}
    for name in ("mlp", "trees", "classifier"):
        content = getattr(onnx_models, name)(4)
        model = Model(content, onnx_models.pipeline())
        found[name] = float(model.run(model.signature.rows(row))[0, 0])

    assert found == pytest.approx(PINNED, abs=1e-6)


PINNED = {"mlp": 0.8658566, "trees": 0.0339443, "classifier": 0.4793898}
