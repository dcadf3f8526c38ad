"""The pipeline that tests of the drill use: every kind of feature, and every kind of bad event."""

from __future__ import annotations

import tomllib

from headrace.schemas.pipeline import Pipeline
from headrace.schemas.strict import convert

BATCH_ROWS = 500

FILE = f"""
name = "{{name}}"

[input]
max_skew_s = 1e9
allowed_lateness_s = 2.0

[input.metrics]
load = {{{{ min = 0.0, max = 10.0 }}}}
heat = {{{{}}}}

[views.machine]
features = [
  {{{{ op = "raw", metrics = ["*"] }}}}, {{{{ op = "ewma", metrics = ["*"], alpha = 0.1 }}}},
  {{{{ op = "delta", metrics = ["load"] }}}}, {{{{ op = "count", window_s = 4.0 }}}},
  {{{{ op = "std", metrics = ["heat"], window_s = 4.0 }}}},
  {{{{ op = "zscore", metrics = ["load"], warm_up = 3 }}}},
]

[model]
file = "model.onnx"
name = "mlp"

[summary]
window_s = 1.0
metrics = ["load", "heat"]

[topics]
partitions = 4
{{telemetry}}

[delivery]
mode = "{{mode}}"
start = "earliest"
batch_rows = {BATCH_ROWS}
"""


def drill_pipeline(**changes: object) -> Pipeline:
    """The pipeline itself; `changes` replace keys of its ``[input]``."""
    tree = tomllib.loads(FILE.format(name="press", telemetry="", mode="at-least-once"))
    tree["input"] |= changes
    if "metrics" in changes:
        tree["views"] = {"machine": {"features": [{"op": "ewma", "metrics": ["*"]}]}}
        tree["summary"] = {}
    return convert(tree, Pipeline)
