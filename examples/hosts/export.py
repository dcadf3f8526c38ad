"""The trained classifier as one ONNX graph, its fixed first layer included."""

from __future__ import annotations

import numpy as np
import onnx
from changes import CHANGES, bounds, has_past, weights
from onnx import TensorProto, compose, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.base import BaseEstimator

OPSET = 17


def export(classifier: BaseEstimator, inputs: tuple[str, ...]) -> bytes:
    """float32 ``features`` (N, F) in, float32 ``score`` (N, 1) out.

    The score is the classifier's probability times ``min(1, sum of absolute z-scores)``: z-scores
    are 0 until a device has a past, so a device that has just appeared is never an anomaly.
    """
    example = np.zeros((1, len(CHANGES)), np.float32)
    learned = to_onnx(classifier, example, options={"zipmap": False}, target_opset=OPSET)
    whole = compose.merge_models(
        _first_layer(inputs, learned),
        learned,
        io_map=[("changes", learned.graph.input[0].name)],
        outputs=["past", "probabilities"],
    )
    whole = compose.merge_models(
        whole,
        _last_layer(learned),
        io_map=[("past", "known"), ("probabilities", "both")],
        outputs=["score"],
        name="hosts-change",
    )
    onnx.checker.check_model(whole, full_check=True)
    return bytes(whole.SerializeToString())


def _first_layer(inputs: tuple[str, ...], learned: onnx.ModelProto) -> onnx.ModelProto:
    """`changes.changes`, and whether the device has a past."""
    low, high = bounds()
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["differences"]),
        helper.make_node("Max", ["differences", "low"], ["from_low"]),
        helper.make_node("Min", ["from_low", "high"], ["changes"]),
        helper.make_node("Abs", ["features"], ["sizes"]),
        helper.make_node("MatMul", ["sizes", "has_past"], ["distance"]),
        helper.make_node("Min", ["distance", "one"], ["past"]),
    ]
    constants = {
        "weights": weights(inputs),
        "low": low,
        "high": high,
        "has_past": has_past(inputs),
        "one": np.ones(1, np.float32),
    }
    outputs = {"changes": len(CHANGES), "past": 1}
    return _model("first", nodes, {"features": len(inputs)}, outputs, constants, learned)


def _last_layer(learned: onnx.ModelProto) -> onnx.ModelProto:
    """The probability of a change, damped to 0 where there is no past."""
    nodes = [
        helper.make_node("Gather", ["both", "second"], ["probability"], axis=1),
        helper.make_node("Mul", ["probability", "known"], ["score"]),
    ]
    constants = {"second": np.array([1], np.int64)}
    return _model("last", nodes, {"both": 2, "known": 1}, {"score": 1}, constants, learned)


def _model(
    name: str,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, int],
    outputs: dict[str, int],
    constants: dict[str, np.ndarray],
    like: onnx.ModelProto,
) -> onnx.ModelProto:
    """A graph of float32 (N, width) tensors, of the same versions as `like`."""
    tensors = [
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, w]) for n, w in some.items()]
        for some in (inputs, outputs)
    ]
    values = [numpy_helper.from_array(value, n) for n, value in constants.items()]
    graph = helper.make_graph(nodes, name, *tensors, values)
    return helper.make_model(graph, opset_imports=like.opset_import, ir_version=like.ir_version)
