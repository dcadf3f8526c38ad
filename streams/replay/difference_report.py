"""A what-if as one report: what was tried, how the sides differ, what each costs."""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec
import numpy as np

from headrace.schemas.fragments import iso_times
from headrace.streams.replay.comparison import Comparison, compare
from headrace.streams.replay.ranges import Plan
from headrace.streams.replay.whatif import Other, Tried


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What was tried.

    Attributes:
        pipeline: Pipeline name.
        topic: Topic whose events were replayed.
        other_pipeline: Digest of the pipeline file that was tried.
        model: Digest of the model that was tried.
        threshold: Its threshold.
        features_changed: Its features are others than those that would be served now.
    """

    pipeline: str
    topic: str
    other_pipeline: str
    model: str
    threshold: float
    features_changed: bool


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What a row costs, in processor time of this process.

    Attributes:
        other_us_per_row: Microseconds for a score by what was tried.
        now_us_per_row: The same by what would serve now, over the first rows.
        features_us_per_row: Microseconds for its features.
        served_ms: Quantile to milliseconds from broker to served, as it was served.
    """

    other_us_per_row: float | None
    now_us_per_row: float | None
    features_us_per_row: float | None
    served_ms: dict[str, float]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A what-if.

    Attributes:
        asked: What was tried.
        comparison: How it differs from what was served.
        costs: What it costs.
        notes: What has to be known to read the numbers rightly, one line each.
        seconds: How long it took.
    """

    asked: Asked
    comparison: Comparison
    costs: Costs
    notes: list[str]
    seconds: float


def report(pipeline: str, plan: Plan, other: Other, tried: Tried, *, changed: bool) -> Report:
    """Everything that a what-if found.

    Args:
        pipeline: Pipeline name.
        plan: What was replayed.
        other: What was tried.
        tried: What came of it.
        changed: Its features are others.
    """
    tried_pipeline = other.candidate.pipeline
    rows = tried.cost.rows
    waits = np.quantile(tried.waits_ms, (0.5, 0.99)).tolist() if tried.waits_ms else []
    return Report(
        asked=Asked(
            pipeline=pipeline,
            topic=plan.topic,
            other_pipeline=tried_pipeline.digest,
            model=other.candidate.scorer.model.digest,
            threshold=tried_pipeline.model.outputs.threshold,
            features_changed=changed,
        ),
        comparison=compare(tried.pairs),
        costs=Costs(
            other_us_per_row=tried.cost.us_per_row,
            now_us_per_row=tried.beside.us_per_row,
            features_us_per_row=tried.cost.features_s * 1e6 / rows if rows else None,
            served_ms=dict(zip(("0.5", "0.99"), waits, strict=False)),
        ),
        notes=_notes(plan, tried),
        seconds=tried.seconds,
    )


def _notes(plan: Plan, tried: Tried) -> list[str]:
    starts = {span.partition: span.start for span in plan.spans}
    notes = [one.line for one in plan.missing]
    notes += [
        f"{plan.topic}[{partition}]: the state before {starts[partition]} is "
        f"{begun.said(starts[partition])}"
        for partition, begun in tried.begun.items()
        if not begun.complete
    ]
    if tried.unread.count:
        notes.append(
            f"{tried.unread.count} records are no predictions, the first is {tried.unread.first}"
        )
    return notes


def side_by_side(tried: Tried) -> bytes:
    """Every event with both answers, as CSV in the order of partitions and offsets."""
    pairs, text = tried.pairs, io.StringIO()
    write = csv.writer(text, lineterminator="\n").writerow
    write(("partition", "offset", "event_time", "device_id", "served", "other", "was", "now"))
    columns: tuple[list[Any], ...] = (
        pairs.partitions.tolist(),
        pairs.offsets.tolist(),
        [at.decode() for at in iso_times(pairs.times_ms)],
        pairs.entities,
        [str(score) for score in pairs.ours.astype(np.float32)],
        [str(score) for score in pairs.theirs.astype(np.float32)],
        pairs.was.astype(int).tolist(),
        pairs.now.astype(int).tolist(),
    )
    for row in zip(*columns, strict=True):
        write(row)
    return text.getvalue().encode()
