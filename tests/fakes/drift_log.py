"""A stretch of two partitions' log in which a feature moves, and what a live look found in it."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import numpy as np
from fakes.serve_world import SumScorer, agent, block, pipeline, records

from headrace.schemas.block import FeatureBlock, Labels
from headrace.schemas.canary import Canary, probe_device
from headrace.schemas.observe import Drift, Observe
from headrace.schemas.observed import Finding, Image
from headrace.schemas.pipeline import Pipeline
from headrace.streams.observe.drift_book import DriftBook
from headrace.streams.observe.drift_sketch import DriftSketch

WINDOW_S, WINDOWS, PER_WINDOW = 10.0, 8, 90
PARTS = (0, 1)


def flow(every: int) -> Pipeline:
    """Windows of ten seconds, device classes, probes."""
    drift = Drift(
        window_s=WINDOW_S,
        sample_every=every,
        least_rows=20,
        reference_windows=4,
        psi=0.0,
        false_alarms_per_day=1e5,
    )
    return msgspec.structs.replace(
        pipeline(),
        observe=Observe(class_by="kind", drift=drift),
        canary=Canary(metrics={"load": 1.0, "heat": 1.0}),
    )


def log(seed: int, part: int) -> list[FeatureBlock]:
    """A block of each window, some rows of it probes; from the sixth on one feature is moved."""
    whole = []
    for window in range(WINDOWS):
        made = block(PER_WINDOW, offset=window * PER_WINDOW, seed=seed + part, partition=part)
        rng = np.random.default_rng((seed, part, window))
        span_ms = int(WINDOW_S * 1000)
        made.log_times_ms = window * span_ms + np.sort(rng.integers(0, span_ms, PER_WINDOW))
        made.event_times_ms = made.log_times_ms - 5
        made.features = made.features.copy()
        made.features[:, 0] += 30.0 * (window >= 5)
        names = [made.entities.names[code] for code in made.entities.codes]
        names[3 * part :: 17] = [probe_device(part)] * len(names[3 * part :: 17])
        made.entities = Labels.encode(names)
        whole.append(made)
    return whole


async def lived(
    spec: Pipeline, logs: dict[int, list[FeatureBlock]], cuts: list[int]
) -> tuple[list[Finding], Image, dict[int, list[bytes]]]:
    """What `up` found, what it kept after half of the windows, and its predictions."""
    rules = spec.observe.drift
    assert rules is not None
    book, found, image = DriftBook(rules, spec.model_inputs), [], Image()
    serves = {part: agent(spec, SumScorer()) for part in PARTS}
    states = {part: serves[part].new_state("f", part) for part in PARTS}
    sketches = {part: DriftSketch(rules) for part in PARTS}
    values: dict[int, list[bytes]] = {part: [] for part in PARTS}
    for window in range(WINDOWS):
        for part in PARTS:
            whole = logs[part][window]
            edges = sorted({0, PER_WINDOW, *(cut % PER_WINDOW for cut in cuts)})
            for start, stop in pairwise(edges):
                batch = records(whole.slice(start, stop), offset=start, partition=part)
                effects = await serves[part].process(states[part], batch, rebuilt=False)
                effects.delta.fold()
                for output in effects.outputs:
                    if "predictions" in output.topic:
                        values[part] += output.values
                if effects.timed is not None:
                    sketches[part].record(effects.timed)
                book.take((f"serve-{part}", 0), "9f2c41d0", sketches[part].counted())
        if window == WINDOWS // 2:
            image = Image(references=tuple(book.references()), judged=book.judged)
    book.finish()
    found = book.untold()
    return found, image, values
