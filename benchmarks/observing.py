"""What watching costs: CPU for each batch, by part and size: ``python benchmarks/observing.py``."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

from headrace.schemas.block import Labels
from headrace.schemas.observe import Drift
from headrace.schemas.timed import Timed
from headrace.streams.observe.drift_sketch import DriftSketch
from headrace.streams.observe.hops import HopRecorder
from headrace.streams.observe.traces import traced_rows

NOW_MS = 1_790_000_000_000
SIZES = (1, 250, 1000, 4000)
WHOLE = 300_000
"""Events of a round, of single events a tenth: small batches are counted together now and then."""
CLASSES, FEATURES = 8, 8


def timed(rows: int, rng: np.random.Generator) -> Timed:
    """A batch of SERVE, of eight device classes and eight features."""
    log = np.full(rows, NOW_MS, np.int64)
    codes = rng.integers(0, CLASSES, rows).astype(np.int32)
    classes = Labels([f"class-{k}" for k in range(CLASSES)], codes)
    score = rng.random(rows).astype(np.float32)
    return Timed(
        "t",
        0,
        np.arange(rows),
        log - rng.integers(0, 500, rows),
        log,
        classes,
        log,
        0.0,
        rng.normal(size=(rows, FEATURES)),
        score,
        score,
        score > 0.9,
    )


def cost_us(work: Callable[[], object], *, repeats: int = 100, rounds: int = 7) -> float:
    """Least CPU time of one call over rounds of `repeats`, microseconds."""
    took = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(repeats):
            work()
        took.append((time.process_time() - began) / repeats)
    return round(min(took) * 1e6, 1)


def main() -> None:
    """Print a line for each size, and JSON with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    rng = np.random.default_rng(0)
    found = []
    for rows in SIZES:
        repeats = WHOLE // max(rows, 10)
        events, hops = timed(rows, rng), HopRecorder()
        offsets, drift = np.arange(rows), DriftSketch(Drift())
        bare = [()] * rows
        found.append(
            {
                "rows": rows,
                "hops_us": cost_us(
                    lambda e=events, h=hops: h.record(e, begun_ms=NOW_MS, readable_ms=NOW_MS + 9.0),
                    repeats=repeats,
                ),
                "drift_us": cost_us(lambda e=events, d=drift: d.record(e), repeats=repeats),
                "no_headers_us": cost_us(lambda o=offsets: traced_rows(None, o, o)),
                "no_traces_us": cost_us(lambda o=offsets, b=bare: traced_rows(b, o, o)),
                "told_every_2s_us": cost_us(hops.counted, repeats=5),
                "drift_told_every_2s_us": cost_us(drift.counted, repeats=5),
            }
        )
    print(json.dumps(found) if as_json else "\n".join(map(str, found)))


if __name__ == "__main__":
    main()
