"""Logs, cuts and the run that compares any cut of a log with the event-by-event reference."""

from __future__ import annotations

import itertools
import json
import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from fakes.enrich_reference import Reference

from headrace.enrichers.enricher import Enriched, Enricher
from headrace.enrichers.state import EnrichState
from headrace.schemas.batch import RecordBatch
from headrace.schemas.input import Input, Metric
from headrace.schemas.pipeline import Model, Pipeline
from headrace.schemas.views import Feature, View

START_MS = 1_795_255_200_000
METRICS = ("load", "heat")


def every_op() -> dict[str, View]:
    """Views with every operator, two windows and two weights."""
    both: dict[str, Any] = {"metrics": ("*",)}
    plain = [Feature(op=op, **both) for op in ("raw", "delta", "rate")]
    plain += [Feature(op="since_last"), Feature(op="clock_error"), Feature(op="ewma", **both)]
    plain += [Feature(op="ewma", metrics=("load",), alpha=0.3, name="fast")]
    plain += [Feature(op="zscore", alpha=0.1, warm_up=3, **both)]
    windows = [
        Feature(op=op, metrics=() if op == "count" else ("*",), window_s=seconds, tile_s=tile)
        for seconds, tile in ((10.0, 1.0), (4.0, 4.0))
        for op in ("count", "sum", "mean", "std", "min", "max")
    ]
    return {"now": View(features=tuple(plain)), "lately": View(features=tuple(windows))}


def pipeline(views: dict[str, View] | None = None, **spec: Any) -> Pipeline:
    """A pipeline of two metrics, 5 s of lateness, one of the metrics optional."""
    metrics = {"load": Metric(min=-1e9, max=1e9), "heat": Metric(required=False)}
    spec = {"metrics": metrics, "allowed_lateness_s": 5.0, **spec}
    return Pipeline(
        name="press", input=Input(**spec), views=views or every_op(), model=Model(file="m.onnx")
    )


def iso(time_ms: int) -> str:
    """RFC 3339 text of a time."""
    seconds, ms = divmod(time_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"


def event(event_id: str, entity: str, time_ms: int, **metrics: float | None) -> bytes:
    """One telemetry record in the default form."""
    found = {"id": event_id, "device_id": entity, "time": iso(time_ms), "metrics": metrics}
    return json.dumps({**found, "payload": "raw content"}).encode()


def batch(
    values: Sequence[bytes | None],
    first: int = 0,
    log_times: Sequence[int] | None = None,
    **columns: Any,
) -> RecordBatch:
    """Records from offset `first`."""
    times = np.full(len(values), START_MS + 3_600_000) if log_times is None else log_times
    offsets = np.arange(first, first + len(values))
    keys = columns.pop("keys", [None] * len(values))
    return RecordBatch(
        "telemetry", 2, offsets, np.asarray(times, np.int64), keys, list(values), **columns
    )


def bits(row: Sequence[float]) -> list[bytes]:
    """Each number's bits; every NaN counts the same."""
    return [b"nan" if x != x else struct.pack("<d", x) for x in row]


@dataclass
class Run:
    """Everything a run over a log said.

    Attributes:
        verdicts: Offset to verdict and its detail: feature bits, code, or entity.
        state: The final state's checkpoint fields.
        checkpoint: The fields as the batches' deltas left them.
    """

    verdicts: dict[int, tuple[str, Any]] = field(default_factory=dict)
    state: dict[bytes, bytes] = field(default_factory=dict)
    checkpoint: dict[bytes, bytes] = field(default_factory=dict)

    def note(self, part: RecordBatch, enriched: Enriched) -> None:
        """Note what became of each record; each must have become exactly one thing."""
        offsets = part.offsets.tolist()
        rows = zip(enriched.events.offsets.tolist(), enriched.featured.values, strict=True)
        told = [(offset, ("out", bits(row.tolist()))) for offset, row in rows]
        told += [(offsets[row], ("dead", code)) for row, code in enriched.dead.items()]
        told += [(offsets[row], ("late", entity)) for row, entity in enriched.late.items()]
        assert len(told) == len({offset for offset, _ in told}) == len(part) - enriched.repeated
        self.verdicts |= dict.fromkeys(offsets, ("repeated", None)) | dict(told)


def run(
    enricher: Enricher,
    records: RecordBatch,
    cuts: Sequence[int],
    upsets: Sequence[tuple[int, str]] = (),
) -> Run:
    """Enrich a log cut before each of `cuts`.

    Upsets happen before a record that begins a batch: ``restart`` loads the checkpoint the batches
    left, ``rewrite`` writes the checkpoint anew, ``repeat`` drops the next batch's effects once.
    """
    state, found = enricher.new_state(), Run()
    edges = sorted({0, len(records), *(c for c in cuts if c < len(records))})
    for start, stop in itertools.pairwise(edges):
        part = records.slice(start, stop)
        for kind in [kind for place, kind in upsets if place == start]:
            if kind == "restart":
                state = reloaded(enricher, found.checkpoint.items(), start)
            elif kind == "rewrite":
                found.checkpoint = dict(state.dump())
            else:
                enricher.apply(state, part)
        enriched = enricher.apply(state, part)
        found.note(part, enriched)
        for name in enriched.delta.dropped():
            found.checkpoint.pop(name, None)
        found.checkpoint |= dict(enriched.delta.changed())
        enriched.delta.fold()
    found.state = dict(state.dump())
    return found


def reloaded(enricher: Enricher, fields: Any, seed: int) -> EnrichState:
    """A new state from these fields, in shuffled order."""
    shuffled = list(fields)
    random.Random(seed).shuffle(shuffled)
    state = enricher.new_state()
    state.load(shuffled)
    return state


def expected(spec: Pipeline, records: RecordBatch) -> dict[int, tuple[str, Any]]:
    """What the reference says of a log."""
    reference, found = Reference(spec), {}
    for offset, value, log_time in zip(
        records.offsets.tolist(), records.values, records.log_times_ms.tolist(), strict=True
    ):
        verdict, detail = reference.record(value, log_time)
        found[offset] = verdict, bits(detail) if verdict == "out" else detail
    return found


def check_cuts(
    enricher: Enricher,
    records: RecordBatch,
    cuts: Sequence[int],
    upsets: Sequence[tuple[int, str]] = (),
) -> None:
    """Assert that a log cut so gives the bits of the whole log in one batch, and its state."""
    whole = run(enricher, records, [])
    parts = run(enricher, records, cuts, upsets)
    assert parts.verdicts == whole.verdicts
    assert parts.state == whole.state
    restored = reloaded(enricher, parts.checkpoint.items(), 0)
    assert dict(restored.dump()) == whole.state
