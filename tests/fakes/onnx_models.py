"""Small ONNX models of every kind that serving must take or refuse, as bytes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from headrace.schemas.pipeline import Pipeline
from headrace.schemas.strict import convert

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def model_bytes(nodes, inputs, outputs, weights=(), *, opset=17, domains=()) -> bytes:
    """A model of these nodes; weights are (name, array)."""
    constants = [numpy_helper.from_array(array, name) for name, array in weights]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return model.SerializeToString()


def tensor(name, shape, kind=FLOAT):
    """A typed input or output."""
    return helper.make_tensor_value_info(name, kind, shape)


def _layers(width: int, hidden: int, seed: int, dtype=np.float32):
    random = np.random.default_rng(seed)
    return [
        ("w1", (random.normal(0, 0.5, (width, hidden))).astype(dtype)),
        ("b1", random.normal(0, 0.1, hidden).astype(dtype)),
        ("w2", (random.normal(0, 0.5, (hidden, 1))).astype(dtype)),
        ("b2", np.zeros(1, dtype)),
    ]


def mlp(width=8, hidden=32, seed=1, dtype=np.float32) -> bytes:
    """Input x (N, width) to score (N, 1) in 0..1."""
    kind = FLOAT if dtype is np.float32 else TensorProto.DOUBLE
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["score"]),
    ]
    return model_bytes(
        nodes,
        [tensor("x", ["n", width], kind)],
        [tensor("score", ["n", 1], kind)],
        _layers(width, hidden, seed, dtype),
    )


def classifier(width=4, *, zipmap=False) -> bytes:
    """Label int64 (N,) and probabilities (N, 2), as sklearn's converter makes them."""
    random = np.random.default_rng(2)
    linear = helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "p"],
        domain="ai.onnx.ml",
        coefficients=random.normal(0, 1, 2 * width).astype(np.float32).tolist(),
        intercepts=[0.1, -0.1],
        classlabels_ints=[0, 1],
        post_transform="SOFTMAX",
        multi_class=0,
    )
    if not zipmap:
        linear.output[1] = "probabilities"
        outputs = [tensor("label", ["n"], INT64), tensor("probabilities", ["n", 2])]
        return model_bytes([linear], [tensor("x", ["n", width])], outputs, domains=["ai.onnx.ml"])
    mapped = helper.make_node(
        "ZipMap", ["p"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]
    )
    entry = helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, []))
    maps = helper.make_value_info("maps", helper.make_sequence_type_proto(entry))
    return model_bytes(
        [linear, mapped],
        [tensor("x", ["n", width])],
        [tensor("label", ["n"], INT64), maps],
        domains=["ai.onnx.ml"],
    )


def trees(width=4, count=20) -> bytes:
    """A regressor of `count` stumps of depth 2 over x (N, width): score (N, 1)."""
    random = np.random.default_rng(3)
    ids, nodes, features, values, modes, yes, no = [], [], [], [], [], [], []
    target_ids, target_nodes, weights = [], [], []
    for tree in range(count):
        for node in range(7):
            inner = node < 3
            ids.append(tree)
            nodes.append(node)
            features.append(int(random.integers(width)) if inner else 0)
            values.append(float(random.normal()) if inner else 0.0)
            modes.append("BRANCH_LEQ" if inner else "LEAF")
            yes.append(2 * node + 1 if inner else 0)
            no.append(2 * node + 2 if inner else 0)
            if not inner:
                target_ids.append(tree)
                target_nodes.append(node)
                weights.append(float(random.normal()) / count)
    ensemble = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["score"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=ids,
        nodes_nodeids=nodes,
        nodes_featureids=features,
        nodes_values=values,
        nodes_modes=modes,
        nodes_truenodeids=yes,
        nodes_falsenodeids=no,
        target_treeids=target_ids,
        target_nodeids=target_nodes,
        target_ids=[0] * len(weights),
        target_weights=weights,
    )
    return model_bytes(
        [ensemble],
        [tensor("x", ["n", width])],
        [tensor("score", ["n", 1])],
        domains=["ai.onnx.ml"],
    )


def dynamic_int8(width=4) -> bytes:
    """A layer whose quantization scale is taken from the whole batch: never batch-invariant."""
    weights = np.random.default_rng(4).integers(-127, 127, (width, 1)).astype(np.int8)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["q", "w", "zero"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=FLOAT),
        helper.make_node("Mul", ["f", "scale"], ["s"]),
        helper.make_node("Mul", ["s", "ws"], ["score"]),
    ]
    return model_bytes(
        nodes,
        [tensor("x", ["n", width])],
        [tensor("score", ["n", 1])],
        [("w", weights), ("ws", np.array(0.01, np.float32))],
    )


def column_inputs(names, *, flat=False) -> bytes:
    """One input (N, 1) or (N,) per name; score = sum of (position + 1) * input."""
    shape = ["n"] if flat else ["n", 1]
    nodes, terms = [], []
    for i, name in enumerate(names):
        nodes.append(helper.make_node("Mul", [name, f"w{i}"], [f"t{i}"]))
        terms.append(f"t{i}")
    nodes.append(helper.make_node("Sum", terms, ["score"]))
    weights = [(f"w{i}", np.array(i + 1, np.float32)) for i in range(len(names))]
    return model_bytes(nodes, [tensor(n, shape) for n in names], [tensor("score", shape)], weights)


def looks_up(width=4, size=10) -> bytes:
    """Raises for rows whose first feature is no index into a table of `size`; score (N, 1)."""
    nodes = [
        helper.make_node("Slice", ["x", "zero", "one", "axis"], ["first"]),
        helper.make_node("Cast", ["first"], ["index"], to=INT64),
        helper.make_node("Gather", ["table", "index"], ["score"]),
    ]
    weights = [
        ("zero", np.array([0])),
        ("one", np.array([1])),
        ("axis", np.array([1])),
        ("table", np.linspace(0, 1, size, dtype=np.float32)),
    ]
    return model_bytes(nodes, [tensor("x", ["n", width])], [tensor("score", ["n", 1])], weights)


def logarithm(width=4) -> bytes:
    """Score is the mean logarithm: not finite for a row with a feature at or below 0."""
    nodes = [
        helper.make_node("Log", ["x"], ["l"]),
        helper.make_node("ReduceMean", ["l"], ["score"], axes=[1], keepdims=1),
    ]
    return model_bytes(nodes, [tensor("x", ["n", width])], [tensor("score", ["n", 1])])


def pipeline(metrics=4, *, file="model.onnx", **parts) -> Pipeline:
    """A pipeline of raw metrics m0, m1, … whose model reads all of them."""
    tree = {
        "name": "press",
        "input": {"metrics": {f"m{i}": {} for i in range(metrics)}},
        "views": {"v": {"features": [{"op": "raw", "metrics": ["*"], "name": "{metric}"}]}},
        "model": {"file": file},
    }
    for name, part in parts.items():
        tree[name] = tree.get(name, {}) | part
    return convert(tree, Pipeline)


def write_golden(folder: Path, inputs, scores, tolerance=1e-6) -> None:
    """A golden file beside the model."""
    pairs = {"inputs": inputs, "scores": scores, "tolerance": tolerance}
    (folder / "golden.json").write_bytes(msgspec.json.encode(pairs))
