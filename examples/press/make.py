"""Write model.onnx, golden.json and events.ndjson: ``python examples/press/make.py``.

The model is three weights set by hand, so that its scores can be checked by hand; `onnx` is among
the development packages.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

HERE = Path(__file__).parent
WEIGHTS = np.array([[0.5], [0.8], [2.0]], np.float32)
"""Of the two z-scores and of the largest vibration in ten seconds."""
BIAS = np.array([-5.0], np.float32)

PRESSES = {"press-05": "a", "press-06": "a", "press-07": "b", "press-08": "b"}
SECONDS = 60
FAULT_FROM = 50


def score(rows: np.ndarray) -> np.ndarray:
    """What the model says of float32 (N, 3): float64 (N,)."""
    return (1.0 / (1.0 + np.exp(-(rows.astype(np.float64) @ WEIGHTS + BIAS))))[:, 0]


def write_model() -> None:
    """The ONNX file: one matrix product, one addition, one sigmoid."""
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "press",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N", 1])],
        [numpy_helper.from_array(WEIGHTS, "weights"), numpy_helper.from_array(BIAS, "bias")],
    )
    opset = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=9), HERE / "model.onnx")


def write_golden() -> None:
    """Inputs and the scores they must get, checked before the model is ready."""
    rows = np.array([[0, 0, 0.3], [4, 4, 0.9], [-1, 8, 2.0]], np.float32)
    golden = {
        "inputs": rows.astype(float).round(4).tolist(),
        "scores": score(rows).tolist(),
        "tolerance": 1e-5,
    }
    (HERE / "golden.json").write_text(json.dumps(golden, indent=1) + "\n", "utf-8")


def write_events() -> None:
    """A minute of four presses; press-07 begins to shake in its last ten seconds."""
    random = np.random.default_rng(7)
    begin = datetime(2025, 6, 15, 10, tzinfo=UTC)
    with (HERE / "events.ndjson").open("w", encoding="utf-8") as file:
        for second in range(SECONDS):
            at = (begin + timedelta(seconds=second)).isoformat().replace("+00:00", "Z")
            for press, line in PRESSES.items():
                shaking = press == "press-07" and second >= FAULT_FROM
                metrics = {
                    "temperature_c": round(70 + random.normal(0, 0.5), 2),
                    "vibration_g": round(abs(0.3 + random.normal(0, 0.02)) + 1.2 * shaking, 3),
                }
                event = {"id": f"{press}-{second:06d}", "device_id": press, "time": at}
                event |= {"line": line, "metrics": metrics, "payload": "raw content, stays here"}
                file.write(json.dumps(event) + "\n")


if __name__ == "__main__":
    write_model()
    write_golden()
    write_events()
