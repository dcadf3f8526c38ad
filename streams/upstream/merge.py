"""Summaries of one window and group, from several partitions, as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import reduce

from headrace.schemas.summary import SummaryRecord
from headrace.streams.agents.moments import merge_moments


def merge_summaries(parts: Sequence[SummaryRecord], *, top: int) -> SummaryRecord:
    """One summary of all parts, in whatever order and grouping they are merged.

    Counts, extremes and the top devices are exact, as a device is in one partition only; means and
    sums of squares are equal up to rounding. A suppressed part adds its rows and devices alone;
    the whole is suppressed where every part is. `partition` is the lowest of the parts'.

    Args:
        parts: At least one, all of one pipeline file, window and group, none twice.
        top: How many devices to name; the same at every level of merging.

    Raises:
        ValueError: parts of different windows, groups or pipeline files.
    """
    if len({_what(part) for part in parts}) != 1:
        raise ValueError("summaries of different windows, groups or pipeline files cannot merge")
    first = parts[0]
    devices = sorted(
        (device for part in parts for device in part.top), key=lambda d: (-d.score, d.device_id)
    )
    metrics = {name: None for part in parts for name in part.metrics}
    return SummaryRecord(
        pipeline=first.pipeline,
        pipeline_digest=first.pipeline_digest,
        window_start_ms=first.window_start_ms,
        window_end_ms=first.window_end_ms,
        group=first.group,
        partition=min(part.partition for part in parts),
        rows=sum(part.rows for part in parts),
        anomalies=sum(part.anomalies for part in parts),
        devices=sum(part.devices for part in parts),
        suppressed=all(part.suppressed for part in parts),
        score=reduce(merge_moments, (part.score for part in parts)),
        metrics={
            name: reduce(merge_moments, (p.metrics[name] for p in parts if name in p.metrics))
            for name in metrics
        },
        top=tuple(devices[:top]),
        models=dict(sum((Counter(part.models) for part in parts), Counter())),
    )


def _what(part: SummaryRecord) -> tuple[str, str, int, int, str]:
    return (
        part.pipeline,
        part.pipeline_digest,
        part.window_start_ms,
        part.window_end_ms,
        part.group,
    )
