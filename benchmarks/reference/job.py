"""The reference job: what every side does, on the same log, with the same model.

200-byte JSON telemetry, 4 metrics, 1000 devices, 4 partitions -> decode, validate, dedupe, 8
features (4 raw, 4 EWMA), a Redis update per device and batch, an ONNX MLP, one prediction per event
out, the same documented bytes on every side.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DEVICES = 1000
PARTITIONS = 4
METRICS = ("temperature_c", "vibration_g", "pressure_bar", "current_a")
ALPHA = 0.05
START_MS = 1_795_255_200_000

PIPELINE = """
name = "{name}"

[input]
key = "entity"
raw = ["payload"]
max_skew_s = 1e9            # the log is written ahead of its time
allowed_lateness_s = {lateness_s}

[input.metrics]
temperature_c = {{ min = -100.0, max = 500.0 }}
vibration_g = {{ min = 0.0, max = 100.0 }}
pressure_bar = {{ min = 0.0, max = 1000.0 }}
current_a = {{ min = 0.0, max = 1000.0 }}

[views.machine]
features = [{{ op = "raw", metrics = ["*"] }}, {{ op = "ewma", metrics = ["*"], alpha = 0.05 }}]

[model]
file = "model.onnx"
name = "reference"

[summary]
window_s = 10.0

[delivery]
start = "earliest"
"""
"""The pipeline file, less the topics, which have the 4 partitions of the default."""


def events(count: int, *, first: int = 0, seed: int = 7) -> Iterator[tuple[str, bytes]]:
    """Device and JSON event, `count` times; every event is 200 bytes or a little more.

    Args:
        count: How many.
        first: Number of the first event; it is in the event's id and sets its time.
        seed: Of the values.
    """
    rng = random.Random(seed)
    filler = "x" * 10
    for n in range(first, first + count):
        device = f"press-{n % DEVICES:04d}"
        at = START_MS + n // 50
        seconds, millis = divmod(at, 1000)
        stamp = np.datetime_as_string(np.datetime64(seconds, "s"))
        values = [rng.gauss(70, 5), abs(rng.gauss(0.3, 0.1)), rng.gauss(6, 0.5), rng.gauss(12, 2)]
        metrics = ",".join(
            f'"{name}":{abs(value):.4f}' for name, value in zip(METRICS, values, strict=True)
        )
        yield (
            device,
            (
                f'{{"id":"{device}-{n:08d}","device_id":"{device}","time":"{stamp}.{millis:03d}Z",'
                f'"metrics":{{{metrics}}},"payload":"{filler}"}}'
            ).encode(),
        )


def write_model(file: Path) -> None:
    """An MLP 8-32-1 with a sigmoid, seeded."""
    rng = np.random.default_rng(7)
    scale = np.array([70, 0.3, 6, 12, 70, 0.3, 6, 12], np.float32)
    w1 = (rng.normal(size=(8, 32)) / scale[:, None] / 3).astype(np.float32)
    w2 = (rng.normal(size=(32, 1)) / 6).astype(np.float32)
    weights = {
        "w1": w1,
        "b1": rng.normal(size=32).astype(np.float32) / 3,
        "w2": w2,
        "b2": np.array([-0.5], np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Gemm", ["r", "w2", "b2"], ["z"]),
            helper.make_node("Sigmoid", ["z"], ["score"]),
        ],
        "reference",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, file)
