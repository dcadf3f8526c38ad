"""What summaries and each of their sketches cost: CPU per event of SERVE's fold and its checkpoint.

    python -m benchmarks.summaries [--events 2000000]

Batches of 3,000 rows of 1,000 devices, 4 metrics, windows of 10 s at 50,000 events/s. The last line
is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time

import msgspec
import numpy as np

from headrace.schemas.block import Labels
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.topics import topics_of
from headrace.streams.agents.scored_rows import ScoredRows
from headrace.streams.agents.summarize import Summarizer
from headrace.streams.agents.windows import Windows

BATCH, DEVICES, METRICS, EVENTS_PER_MS = 3000, 1000, 4, 50
SKETCHES = {
    "none": {},
    "quantiles": {"quantiles": True},
    "distinct": {"distinct": True},
    "frequent": {"frequent": 100},
    "all": {"quantiles": True, "distinct": True, "frequent": 100},
}


def summarizer(sketches: dict[str, object]) -> Summarizer:
    names = [f"m{k}" for k in range(METRICS)]
    tree = {
        "name": "p",
        "input": {"metrics": {name: {} for name in names}},
        "views": {"v": {"features": [{"op": "raw", "metrics": ["*"]}]}},
        "model": {"file": "m"},
        "summary": {"metrics": names, **sketches},
    }
    spec = msgspec.convert(tree, Pipeline)
    return Summarizer(spec, topics_of(spec))


def rows(at: int, groups: int) -> ScoredRows:
    random = np.random.default_rng(at)
    times = (at + np.arange(BATCH)) // EVENTS_PER_MS
    score = random.random(BATCH).astype(np.float32)
    return ScoredRows(
        event_times_ms=times,
        log_times_ms=times,
        served=np.arange(BATCH),
        entities=Labels([f"d{k}" for k in range(DEVICES)], random.integers(0, DEVICES, BATCH)),
        groups=Labels([f"g{k}" for k in range(groups)], random.integers(0, groups, BATCH)),
        score=score,
        high=score > 0.98,
        metrics=random.normal(70, 5, (BATCH, METRICS)),
        model="9f2c41d0",
    )


def cpu_us(sketches: dict[str, object], batches: list[ScoredRows]) -> float:
    """CPU per event, microseconds: what changes, its checkpoint fields, what is released."""
    made, windows = summarizer(sketches), Windows()
    start = time.process_time()
    for batch in batches:
        delta, _ = made.fold(windows, batch, 0)
        dict(delta.changed())
        list(delta.dropped())
        delta.fold()
    return (time.process_time() - start) / (len(batches) * BATCH) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    args = parser.parse_args()
    report = {}
    for groups in (1, 20):
        batches = [rows(at, groups) for at in range(0, args.events, BATCH)]
        found = {name: cpu_us(asked, batches) for name, asked in SKETCHES.items()}
        report[str(groups)] = found
        for name, us in found.items():
            added = us - found["none"]
            print(f"{groups:>3} groups, {name:<10} {us:6.2f} µs per event, {added:+.2f}")
    print(json.dumps({"us_cpu_per_event_by_groups": report}))


if __name__ == "__main__":
    main()
