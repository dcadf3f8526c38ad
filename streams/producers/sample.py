"""From two raw samples of a machine to telemetry events: pure, no reading, no clock.

Every device, whatever its kind, is read as the same few counters that only grow, so that one
metric set, and one model, serves them all. What each kind puts there is in `headrace.streams.
producers.sensors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec

Kind = Literal["core", "disk", "net", "host", "process"]

MIN_ELAPSED_S = 0.001
"""Two samples closer than this say nothing about a rate."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One device's counters at one moment; all but `memory` only ever grow.

    Attributes:
        device_id: Entity key.
        kind: What it is.
        busy_s: Seconds it was in use.
        span_s: Seconds it could have been in use.
        operations: Operations done.
        moved_bytes: Bytes moved.
        waited_s: Seconds of waiting it caused; of a network interface the packets it lost.
        memory: Share of the machine's memory in use now, 0 to 1.
        payload: Raw content: the counters as read, or a process's command line.
        process: A process's name, personal; None for every other kind.
    """

    device_id: str
    kind: Kind
    busy_s: float
    span_s: float
    operations: float = 0.0
    moved_bytes: float = 0.0
    waited_s: float = 0.0
    memory: float = 0.0
    payload: str = ""
    process: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """Every device of one machine, read at one moment.

    Attributes:
        number: Counts the samples of a run; the `seq` of its events.
        time_s: Wall clock, seconds since 1970.
        at_s: Monotonic clock, seconds.
        readings: Device id to reading.
    """

    number: int
    time_s: float
    at_s: float
    readings: Mapping[str, Reading]


class HostEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A telemetry event in the default form, with the kind of device and a process's name."""

    id: str
    device_id: str
    time: str
    seq: int
    kind: Kind
    metrics: dict[str, float]
    payload: str
    process: str | None = None


def measure(before: Reading, after: Reading, elapsed_s: float) -> dict[str, float]:
    """The metric set of one device between two readings, `elapsed_s` > 0 apart.

    A counter that went backwards (a device reset, a rounding of the kernel) counts as unchanged.

    Returns:
        ``load`` share of capacity in use (0 to 1, above 1 where several cores serve one device),
        ``ops_per_s``, ``bytes_per_s``, ``pressure`` waiting per second, ``memory`` share.

    Example:
        >>> before = Reading("core-0", "core", busy_s=5.0, span_s=10.0)
        >>> after = Reading("core-0", "core", busy_s=5.5, span_s=11.0, operations=200)
        >>> measure(before, after, 1.0)
        {'load': 0.5, 'ops_per_s': 200.0, 'bytes_per_s': 0.0, 'pressure': 0.0, 'memory': 0.0}
    """
    span_s = after.span_s - before.span_s
    busy_s = max(0.0, after.busy_s - before.busy_s)
    return {
        "load": round(busy_s / span_s, 6) if span_s > 0 else 0.0,
        "ops_per_s": _per_s(before.operations, after.operations, elapsed_s),
        "bytes_per_s": _per_s(before.moved_bytes, after.moved_bytes, elapsed_s),
        "pressure": _per_s(before.waited_s, after.waited_s, elapsed_s),
        "memory": round(after.memory, 6),
    }


def _per_s(before: float, after: float, elapsed_s: float) -> float:
    return round(max(0.0, after - before) / elapsed_s, 6)


def events(before: Sample, after: Sample, *, run: str) -> list[HostEvent]:
    """One event for each device that is in both samples, in the order of the later one.

    Args:
        before: The earlier sample.
        after: The later one.
        run: Unique per run of the producer, so that ids never repeat.
    """
    elapsed_s = after.at_s - before.at_s
    if elapsed_s < MIN_ELAPSED_S:
        return []
    time = rfc3339(after.time_s)
    return [
        HostEvent(
            id=f"{reading.device_id}-{run}-{after.number}",
            device_id=reading.device_id,
            time=time,
            seq=after.number,
            kind=reading.kind,
            metrics=measure(before.readings[reading.device_id], reading, elapsed_s),
            payload=reading.payload,
            process=reading.process,
        )
        for reading in after.readings.values()
        if reading.device_id in before.readings
    ]


def rfc3339(time_s: float) -> str:
    """A wall-clock time, seconds since 1970, as RFC 3339 text in UTC with milliseconds.

    Example:
        >>> rfc3339(1795255200.123)
        '2026-11-21T10:00:00.123Z'
    """
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
