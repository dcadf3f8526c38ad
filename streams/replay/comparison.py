"""The difference report of two sides: agreement, shift, flips, by device and by time."""

from __future__ import annotations

import msgspec
import numpy as np

from headrace.schemas.batch import F64
from headrace.streams.replay.sides import Pairs

QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
MOST_DEVICES, BUCKETS = 20, 60


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """One side's scores.

    Attributes:
        mean: Mean score.
        quantiles: Quantile to score.
        anomalies: Events labelled anomalous.
    """

    mean: float
    quantiles: dict[str, float]
    anomalies: int


class Shift(msgspec.Struct, frozen=True, kw_only=True):
    """How scores moved, the other's less what was served.

    Attributes:
        mean: Mean difference.
        mean_absolute: Mean size of it.
        quantiles: Quantile to size of the difference.
        largest: Its largest size.
        largest_at: Event of that, ``[partition]@offset``.
        equal: Events with the same score to the bit of a float32.
        ks: Largest distance between the two distributions, 0 to 1 (Kolmogorov-Smirnov).
    """

    mean: float
    mean_absolute: float
    quantiles: dict[str, float]
    largest: float
    largest_at: str | None
    equal: int
    ks: float


class ByDevice(msgspec.Struct, frozen=True, kw_only=True):
    """One device's events.

    Attributes:
        device_id: Entity.
        events: Its events.
        gained: Anomalous by the other only.
        lost: Anomalous as served only.
        mean_shift: Mean difference of its scores.
    """

    device_id: str
    events: int
    gained: int
    lost: int
    mean_shift: float


class ByTime(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch of event time.

    Attributes:
        start_ms: Its start, milliseconds since 1970.
        events: Events in it.
        was: Anomalous as served.
        now: Anomalous by the other.
        gained: Anomalous by the other only.
        lost: Anomalous as served only.
        mean_ours: Mean score as served.
        mean_theirs: Mean score by the other.
    """

    start_ms: int
    events: int
    was: int
    now: int
    gained: int
    lost: int
    mean_ours: float
    mean_theirs: float


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two sides of the same events.

    Attributes:
        events: Events that both sides answered.
        only_served: Events that the other gives no score.
        only_other: Events of which no prediction is on the topic.
        agreement: Share of labels that are the same.
        gained: Events that are anomalous by the other only.
        lost: Events that were anomalous as served only.
        served: Scores as served.
        other: Scores by the other.
        shift: How scores moved.
        devices: Devices with the most flips, then with the largest shift.
        device_count: Devices in all.
        bucket_ms: Length of a stretch in `times`.
        times: Stretches of event time in order, none empty.
    """

    events: int
    only_served: int
    only_other: int
    agreement: float | None
    gained: int
    lost: int
    served: Scores | None
    other: Scores | None
    shift: Shift | None
    devices: list[ByDevice]
    device_count: int
    bucket_ms: int
    times: list[ByTime]


def compare(pairs: Pairs) -> Comparison:
    """The report of two sides; of no events, a report of none.

    Delivery: pure. Sums run over the events in the order of partitions and offsets.
    """
    gained, lost = pairs.now & ~pairs.was, pairs.was & ~pairs.now
    count = len(pairs)
    bucket_ms, times = _by_time(pairs)
    devices = _by_device(pairs)
    return Comparison(
        events=count,
        only_served=pairs.only_ours,
        only_other=pairs.only_theirs,
        agreement=float((pairs.was == pairs.now).mean()) if count else None,
        gained=int(gained.sum()),
        lost=int(lost.sum()),
        served=_scores(pairs.ours, int(pairs.was.sum())) if count else None,
        other=_scores(pairs.theirs, int(pairs.now.sum())) if count else None,
        shift=_shift(pairs) if count else None,
        devices=devices[:MOST_DEVICES],
        device_count=len(devices),
        bucket_ms=bucket_ms,
        times=times,
    )


def _scores(scores: F64, anomalies: int) -> Scores:
    return Scores(mean=float(scores.mean()), quantiles=_quantiles(scores), anomalies=anomalies)


def _quantiles(values: F64) -> dict[str, float]:
    found = np.quantile(values, QUANTILES).tolist()
    return {f"{q:g}": value for q, value in zip(QUANTILES, found, strict=True)}


def _shift(pairs: Pairs) -> Shift:
    moved = pairs.theirs - pairs.ours
    size = np.abs(moved)
    most = int(size.argmax())
    same = pairs.ours.astype(np.float32) == pairs.theirs.astype(np.float32)
    at = f"[{pairs.partitions[most]}]@{pairs.offsets[most]}" if size[most] else None
    return Shift(
        mean=float(moved.mean()),
        mean_absolute=float(size.mean()),
        quantiles=_quantiles(size),
        largest=float(size[most]),
        largest_at=at,
        equal=int(same.sum()),
        ks=_ks(pairs.ours, pairs.theirs),
    )


def _ks(a: F64, b: F64) -> float:
    """Largest distance between two empirical distribution functions.

    Source: the two-sample statistic of Kolmogorov and Smirnov.
    """
    every = np.concatenate([a, b])
    ours = np.searchsorted(np.sort(a), every, side="right") / len(a)
    theirs = np.searchsorted(np.sort(b), every, side="right") / len(b)
    return float(np.abs(ours - theirs).max())


def _by_device(pairs: Pairs) -> list[ByDevice]:
    """Most flips first, then the largest shift, then by name."""
    names, codes = np.unique(np.array(pairs.entities, dtype=np.str_), return_inverse=True)
    size = len(names)
    events = np.bincount(codes, minlength=size)
    gained = np.bincount(codes[pairs.now & ~pairs.was], minlength=size)
    lost = np.bincount(codes[pairs.was & ~pairs.now], minlength=size)
    shift = np.bincount(codes, pairs.theirs - pairs.ours, size) / np.maximum(events, 1)
    rows = [
        ByDevice(device_id=name, events=n, gained=g, lost=lo, mean_shift=s)
        for name, n, g, lo, s in zip(
            names.tolist(), events.tolist(), gained.tolist(), lost.tolist(), shift.tolist(),
            strict=True,
        )
    ]  # fmt: skip
    return sorted(rows, key=lambda d: (-d.gained - d.lost, -abs(d.mean_shift), d.device_id))


def _by_time(pairs: Pairs) -> tuple[int, list[ByTime]]:
    """At most `BUCKETS` stretches of equal length, a whole number of seconds."""
    if not len(pairs):
        return 1000, []
    first, last = int(pairs.times_ms.min()), int(pairs.times_ms.max())
    bucket_ms = 1000 * max(1, -(-(last - first + 1) // (1000 * BUCKETS)))
    start = first - first % bucket_ms
    used, codes = np.unique((pairs.times_ms - start) // bucket_ms, return_inverse=True)
    size = len(used)
    events = np.bincount(codes, minlength=size)
    ours = np.bincount(codes, pairs.ours, size) / events
    theirs = np.bincount(codes, pairs.theirs, size) / events
    flags = (pairs.was, pairs.now, pairs.now & ~pairs.was, pairs.was & ~pairs.now)
    columns = [np.bincount(codes[flag], minlength=size).tolist() for flag in flags]
    rows = zip(
        used.tolist(), events.tolist(), *columns, ours.tolist(), theirs.tolist(), strict=True
    )
    return bucket_ms, [
        ByTime(
            start_ms=start + number * bucket_ms, events=n, was=was, now=now, gained=gained,
            lost=lost, mean_ours=mean_ours, mean_theirs=mean_theirs,
        )
        for number, n, was, now, gained, lost, mean_ours, mean_theirs in rows
    ]  # fmt: skip
