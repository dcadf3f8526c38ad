"""A perceptron on labelled features, as an ONNX file that answers alike for every batch."""

from __future__ import annotations

import warnings

import numpy as np
import onnxruntime
from numpy.typing import NDArray

F32 = NDArray[np.float32]

OPSET = 17
NORMAL_PER_FOUND = 8
"""Normal rows for each row to be found in training; the rest of the normal ones is alike."""
GOLDEN_ROWS = 32


def fit(inputs: F32, labels: NDArray[np.int8], *, name: str, seed: int) -> bytes:
    """Fit a classifier, and give it as ONNX: float32 ``features`` (N, F) to ``score`` (N, 1).

    tanh bounds what one wild value can do. The same packages, arguments and seed give the same
    bytes.

    Args:
        inputs: float32 (N, F), no NaN.
        labels: int8 (N,), 1 to be found, 0 not, below 0 left out.
        name: Name of the graph.
        seed: Of the sample and of the fit.
    """
    # Needs the `train` extra, which measuring a model does not.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = _sample(labels, seed)
    perceptron = MLPClassifier(
        (16, 8), activation="tanh", alpha=1e-3, batch_size=512, max_iter=40, random_state=seed
    )
    classifier = make_pipeline(StandardScaler(), perceptron)
    with warnings.catch_warnings():
        # So many passes are wanted, converged or not: unseen telemetry says what they are worth.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(inputs[rows], labels[rows])
    return _export(classifier, inputs.shape[1], name)


def _sample(labels: NDArray[np.int8], seed: int) -> NDArray[np.int64]:
    """Rows to train on: all that are to be found, and a sample of the normal ones."""
    wanted, rest = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    count = min(len(rest), NORMAL_PER_FOUND * len(wanted))
    return np.concatenate([wanted, np.random.default_rng(seed).choice(rest, count, replace=False)])


def _export(classifier: object, width: int, name: str) -> bytes:
    import onnx
    from onnx import helper, numpy_helper
    from skl2onnx import to_onnx

    model = to_onnx(
        classifier,
        np.zeros((1, width), np.float32),
        options={"zipmap": False},
        target_opset=OPSET,
        name=name,
    )
    graph = model.graph
    _rename(graph, graph.input[0].name, "features")
    second = numpy_helper.from_array(np.array([1], np.int64), "second")
    graph.initializer.append(second)
    graph.node.append(
        helper.make_node("Gather", [graph.output[1].name, "second"], ["score"], axis=1)
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("score", onnx.TensorProto.FLOAT, [None, 1]))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _rename(graph: object, old: str, new: str) -> None:
    graph.input[0].name = new
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new


def score(model: bytes, inputs: F32) -> F32:
    """What a model of one score says, float32 (N,), by ONNX Runtime."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["score"], {"features": inputs})[0][:, 0], np.float32)


def golden(model: bytes, inputs: F32) -> dict[str, object]:
    """Pairs that show that a model file still answers as it did here, from low to high."""
    order = np.argsort(score(model, inputs), kind="stable")
    rows = inputs[order[np.linspace(0, len(order) - 1, GOLDEN_ROWS).astype(int)]]
    return {
        "inputs": [[float(value) for value in row] for row in rows],
        "scores": [float(value) for value in score(model, rows)],
        "tolerance": 1e-6,
    }
