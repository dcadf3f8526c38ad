"""Summaries of one window and group, from several sites, as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import TypeVar

from msgspec.structs import replace

from headrace.schemas.summary import SummaryRecord, TopDevice
from headrace.streams.agents.moments import merge_moments
from headrace.streams.upstream.distinct import estimate, merge_distinct
from headrace.streams.upstream.frequent import merge_frequent
from headrace.streams.upstream.quantiles import merge_quantiles

T = TypeVar("T")


def merge_sites(parts: Sequence[SummaryRecord], *, top: int) -> SummaryRecord:
    """One summary of several sites, of which some may have seen the same devices.

    As `merge_summaries`, but that `devices` is estimated, with the error of `distinct`, where that
    sketch is there: a sum would count a device at each of its sites. It is never less than the
    largest site has, nor more than all together; devices of suppressed sites, which send no sketch,
    are in neither but by these bounds. Of a device at several sites, `top` has the highest score
    and the anomalies of those sites that named it.

    Args:
        parts: At least one, each of one site or of several merged, as for `merge_summaries`.
        top: How many devices to name.

    Raises:
        ValueError: as `merge_summaries`.
    """
    merged = merge_summaries(parts, top=top)
    if merged.distinct is None:
        return merged
    least = max(part.devices for part in parts)
    return replace(
        merged, devices=max(least, min(merged.devices, round(estimate(merged.distinct))))
    )


def merge_summaries(parts: Sequence[SummaryRecord], *, top: int) -> SummaryRecord:
    """One summary of parts that share no device, in whatever order and grouping they are merged.

    Counts, extremes and the top devices are exact; so are the bins of quantiles and the sketch of
    distinct devices. Means and sums of squares are equal up to rounding; counters of frequent
    devices within their `error`. A suppressed part adds its rows and devices alone; the whole is
    suppressed where every part is. Its revision is the sum of theirs: it rises when one does.

    Args:
        parts: At least one, all of one pipeline file, window and group; of each site its highest
            revision.
        top: How many devices to name; the same at every level of merging.

    Raises:
        ValueError: parts of different windows, groups or pipeline files, or a malformed sketch.
    """
    if len({_what(part) for part in parts}) != 1:
        raise ValueError("summaries of different windows, groups or pipeline files cannot merge")
    first = parts[0]
    return SummaryRecord(
        pipeline=first.pipeline,
        pipeline_digest=first.pipeline_digest,
        window_start_ms=first.window_start_ms,
        window_end_ms=first.window_end_ms,
        group=first.group,
        rows=sum(part.rows for part in parts),
        anomalies=sum(part.anomalies for part in parts),
        devices=sum(part.devices for part in parts),
        suppressed=all(part.suppressed for part in parts),
        score=reduce(merge_moments, (part.score for part in parts)),
        metrics=_by_name(merge_moments, [part.metrics for part in parts]),
        top=_top(parts, top),
        models=dict(sum((Counter(part.models) for part in parts), Counter())),
        rev=sum(part.rev for part in parts),
        score_quantiles=_any(merge_quantiles, (part.score_quantiles for part in parts)),
        quantiles=_by_name(merge_quantiles, [part.quantiles for part in parts]),
        distinct=_any(merge_distinct, (part.distinct for part in parts)),
        frequent=_any(merge_frequent, (part.frequent for part in parts)),
    )


def _any(merge: Callable[[T, T], T], values: Iterable[T | None]) -> T | None:
    """Those that are there, merged; suppressed parts have none."""
    there = [value for value in values if value is not None]
    return reduce(merge, there) if there else None


def _by_name(merge: Callable[[T, T], T], parts: Sequence[Mapping[str, T]]) -> dict[str, T]:
    names = {name: None for part in parts for name in part}
    return {name: reduce(merge, (p[name] for p in parts if name in p)) for name in names}


def _top(parts: Sequence[SummaryRecord], size: int) -> tuple[TopDevice, ...]:
    best: dict[str, TopDevice] = {}
    for device in (device for part in parts for device in part.top):
        same = best.get(device.device_id)
        best[device.device_id] = (
            replace(device, score=max(device.score, same.score), rows=device.rows + same.rows)
            if same
            else device
        )
    return tuple(sorted(best.values(), key=lambda d: (-d.score, d.device_id))[:size])


def _what(part: SummaryRecord) -> tuple[str, str, int, int, str]:
    return (
        part.pipeline,
        part.pipeline_digest,
        part.window_start_ms,
        part.window_end_ms,
        part.group,
    )
