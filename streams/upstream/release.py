"""A summary as it is released: what the egress contract allows of one window and group."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import reduce

import msgspec

from headrace.schemas.partial import Part, Seen
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.summary import Moments, Quantiles, SummaryRecord, TopDevice
from headrace.streams.agents.moments import Running, merge_moments
from headrace.streams.upstream.distinct import distinct_of, read_distinct
from headrace.streams.upstream.frequent import frequent_of, read_frequent
from headrace.streams.upstream.quantiles import Bins, merge_quantiles, read_quantiles

_LABEL = 64


class Release:
    """Makes the summary of a window and group from the parts of every partition.

    Small groups are suppressed here, where all of a group is known, and personal entities are left
    out.

    Args:
        pipeline: Pipeline file.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._summary = pipeline.summary
        self._name, self._digest = pipeline.name, pipeline.digest
        self._window_ms = pipeline.summary.window_ms
        named = not pipeline.input.entity_personal
        self._top = pipeline.summary.top if named else 0
        # From a hash one can tell whether a known name is among few: as personal as the names.
        self._distinct = pipeline.summary.distinct and named
        self._frequent = pipeline.summary.frequent if named else 0

    def record(self, parts: Sequence[Part], rev: int) -> SummaryRecord:
        """The summary of all `parts`.

        Args:
            parts: Parts and pieces of one window and group, each once, in an order that hangs on
                nothing but themselves: means and sums of squares are rounded in that order;
                everything else is the same in any.
            rev: Its revision.
        """
        devices = devices_of(parts)
        whole = [part for part in parts if not part.piece]
        suppressed = len(devices) < self._summary.min_group
        score, *metrics = [Moments(0, 0.0, 0.0, None, None)] if suppressed else _moments(whole)
        record = SummaryRecord(
            pipeline=self._name,
            pipeline_digest=self._digest,
            window_start_ms=parts[0].window_start_ms,
            window_end_ms=parts[0].window_start_ms + self._window_ms,
            group=parts[0].group,
            rows=sum(part.rows for part in whole),
            anomalies=0 if suppressed else sum(part.anomalies for part in whole),
            devices=len(devices),
            suppressed=suppressed,
            score=score,
            metrics=dict(zip(self._summary.metrics, metrics, strict=not suppressed)),
            top=() if suppressed else _top(devices, self._top),
            models={} if suppressed else _models(whole),
            rev=rev,
        )
        return record if suppressed else self._sketched(record, whole, devices)

    def _sketched(
        self, record: SummaryRecord, parts: Sequence[Part], devices: Mapping[str, Seen]
    ) -> SummaryRecord:
        """The record and the sketches that are asked for."""
        score, *metrics = _quantiles(parts) if self._summary.quantiles else [None]
        anomalies: Counter[str] = Counter()
        for name, (_, rows) in devices.items():
            anomalies[name[:_LABEL]] += rows
        return msgspec.structs.replace(
            record,
            score_quantiles=score,
            quantiles=dict(zip(self._summary.metrics, metrics, strict=False)),
            distinct=distinct_of(devices) if self._distinct else None,
            frequent=frequent_of(anomalies, counters=self._frequent) if self._frequent else None,
        )


def devices_of(parts: Sequence[Part]) -> dict[str, Seen]:
    """Every device of the parts: its highest score, and all its anomalies."""
    found: dict[str, Seen] = {}
    for part in parts:
        for name, seen in part.devices.items():
            known = found.get(name)
            found[name] = (max(known[0], seen[0]), known[1] + seen[1]) if known else seen
    return found


def _moments(parts: Sequence[Part]) -> list[Moments]:
    """Moments of each quantity, over all parts."""
    columns = zip(*(Running.decode(part.running).moments() for part in parts), strict=True)
    return [reduce(merge_moments, column) for column in columns]


def _quantiles(parts: Sequence[Part]) -> list[Quantiles]:
    """The sketch of each quantity, over all parts."""
    columns = zip(*(Bins.decode(part.bins).sketches() for part in parts), strict=True)
    return [reduce(merge_quantiles, column) for column in columns]


def _models(parts: Sequence[Part]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part.models)
    return dict(sorted(total.items()))


def _top(devices: Mapping[str, Seen], size: int) -> tuple[TopDevice, ...]:
    """The devices of the highest scores, of equal ones those with the first names."""
    best = heapq.nsmallest(size, devices.items(), key=lambda item: (-item[1][0], item[0]))
    return tuple(TopDevice(name[:_LABEL], score, rows) for name, (score, rows) in best)


def encode_summary(record: SummaryRecord) -> bytes:
    """The record as JSON, after every rule of its type was checked against the bytes themselves.

    Raises:
        ValueError: a field holds what its type does not allow; nothing of it is quoted.
    """
    value = msgspec.json.encode(record)
    try:
        read = msgspec.json.decode(value, type=SummaryRecord)
        check_sketches(read)
        allowed = read == record
    except (ValueError, msgspec.DecodeError):
        allowed = False
    if not allowed:
        raise ValueError("a summary holds what its type does not allow; it is not sent")
    return value


def check_sketches(record: SummaryRecord) -> None:
    """Refuse sketches that are not, to the letter, what the sketches' own code writes.

    Raises:
        ValueError: one is not; bytes that no sketch writes would be room for anything.
    """
    scores = [] if record.score_quantiles is None else [record.score_quantiles]
    for sketch in (*scores, *record.quantiles.values()):
        read_quantiles(sketch)
    if record.distinct is not None:
        read_distinct(record.distinct)
    if record.frequent is not None:
        read_frequent(record.frequent)
