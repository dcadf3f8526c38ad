"""The reference job: what every side does, on the same log, with the same model.

200-byte JSON telemetry, 4 metrics, 1000 devices, 4 partitions -> decode, validate, dedupe, 8
features (4 raw, 4 EWMA), a Redis update per device and batch, an ONNX MLP, one prediction per event
out, the same documented bytes on every side. A `Shape` names what of that the scaling part varies.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DEVICES = 1000
PARTITIONS = 4
METRICS = ("temperature_c", "vibration_g", "pressure_bar", "current_a")
LIMITS = ((-100, 500), (0, 100), (0, 1000), (0, 1000))
VALUES = ((70, 5), (0.3, 0.1), (6, 0.5), (12, 2))
"""Mean and standard deviation of each metric."""
ALPHA = 0.05
START_MS = 1_795_255_200_000
EVENT_BYTES = 200
FILLER_BYTES = 10
"""Of the payload, in an event of `EVENT_BYTES` with four metrics."""
HIDDEN = 32


@dataclass(frozen=True)
class Shape:
    """What the job is made of; the defaults are the reference job.

    Attributes:
        workers: Processes of each stage.
        partitions: Of every topic.
        devices: How many there are.
        metrics: Of an event; each is one raw feature and one EWMA.
        event_bytes: About the size of an event of four metrics, from `EVENT_BYTES` on; more metrics
            come on top.
        model_cost: Multiplications of the model for one event, as a multiple of the reference's.
    """

    workers: int = 1
    partitions: int = PARTITIONS
    devices: int = DEVICES
    metrics: int = len(METRICS)
    event_bytes: int = EVENT_BYTES
    model_cost: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        """Its metrics: the four of the reference job, then those again under a number."""
        again = [divmod(k, len(METRICS)) for k in range(self.metrics)]
        return tuple(f"{METRICS[k]}_{turn + 1}" if turn else METRICS[k] for turn, k in again)

    @property
    def features(self) -> int:
        """Inputs of its model."""
        return 2 * self.metrics


REFERENCE = Shape()

_PIPELINE = """
name = "{name}"

[input]
key = "entity"
raw = ["payload"]
max_skew_s = 1e9            # the log is written ahead of its time
allowed_lateness_s = {lateness_s}

[input.metrics]
METRICS

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


def pipeline_of(shape: Shape) -> str:
    """The pipeline file as a template of `name` and `lateness_s`, less the topics."""
    lines = [
        f"{name} = {{{{ min = {low:.1f}, max = {high:.1f} }}}}"
        for k, name in enumerate(shape.names)
        for low, high in [LIMITS[k % len(LIMITS)]]
    ]
    return _PIPELINE.replace("METRICS", "\n".join(lines))


PIPELINE = pipeline_of(REFERENCE)


def events(
    count: int, *, first: int = 0, seed: int = 7, shape: Shape = REFERENCE
) -> Iterator[tuple[str, bytes]]:
    """Device and JSON event, `count` times; every event is 200 bytes or a little more.

    Args:
        count: How many.
        first: Number of the first event; it is in the event's id and sets its time.
        seed: Of the values.
        shape: How many devices and metrics, and how large.
    """
    gauss = random.Random(seed).gauss
    filler = "x" * (FILLER_BYTES + shape.event_bytes - EVENT_BYTES)
    drawn = [(name, *VALUES[k % len(VALUES)]) for k, name in enumerate(shape.names)]
    digits = max(4, len(str(shape.devices - 1)))
    second, stamp = -1, ""
    for n in range(first, first + count):
        device = f"press-{n % shape.devices:0{digits}d}"
        seconds, millis = divmod(START_MS + n // 50, 1000)
        if seconds != second:
            second, stamp = seconds, str(np.datetime64(seconds, "s"))
        metrics = ",".join([f'"{name}":{abs(gauss(mean, sd)):.4f}' for name, mean, sd in drawn])
        yield (
            device,
            (
                f'{{"id":"{device}-{n:08d}","device_id":"{device}","time":"{stamp}.{millis:03d}Z",'
                f'"metrics":{{{metrics}}},"payload":"{filler}"}}'
            ).encode(),
        )


def weights_of(shape: Shape) -> dict[str, np.ndarray]:
    """The model's weights, seeded, float32: w1 (F, H), b1 (H,), w2 (H, 1), b2 (1,).

    A wider model has the same spread of scores: its weights shrink by the root of what was added.
    """
    rng = np.random.default_rng(7)
    hidden = HIDDEN * shape.model_cost
    centre = np.resize([mean for mean, _ in VALUES], shape.metrics)
    scale = np.tile(centre, 2).astype(np.float32) * np.sqrt(shape.features / 8)
    w1 = (rng.normal(size=(shape.features, hidden)) / scale[:, None] / 3).astype(np.float32)
    w2 = rng.normal(size=(hidden, 1)) / 6 * np.sqrt(HIDDEN / hidden)
    return {
        "w1": w1,
        "b1": rng.normal(size=hidden).astype(np.float32) / 3,
        "w2": w2.astype(np.float32),
        "b2": np.array([-0.5], np.float32),
    }


def write_model(file: Path, shape: Shape = REFERENCE) -> None:
    """An MLP with a sigmoid, seeded; 8-32-1 in the reference job."""
    import onnx  # here, because the clients of the latency runs have no need of it
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Gemm", ["r", "w2", "b2"], ["z"]),
            helper.make_node("Sigmoid", ["z"], ["score"]),
        ],
        "reference",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", shape.features])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(value, name) for name, value in weights_of(shape).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, file)
