"""How the readings of a fleet reach the bus: in which order, which twice, which too late."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from headrace.streams.producers.chance import F64, I64, drawn
from headrace.streams.producers.plan import EXPECTED, KINDS, OUTCOMES

_KIND = {name: number for number, name in enumerate(KINDS)}
_PREDICTED = OUTCOMES.index("predicted")
_OUTCOME = np.array(EXPECTED)

NEVER = -(2**62)
FUTURE_MS = 50 * 365 * 86_400_000
BROKER_BEHIND_MS = 1_000.0
"""The broker's clock may be so far behind the sender's."""
LATEST_MS = 5_000.0
"""A late event lies up to this far below what is allowed."""


@dataclass(slots=True)
class Rows:
    """Readings as columns of one length.

    Attributes:
        number: int64, of the reading in the run.
        device: int64, of the fleet.
        seq: int64, the device's own counter.
        read_ms: int64, when it was read, milliseconds since 1970.
        time_ms: int64, the event's time: when it was read, by the device's clock.
        send_ms: float64, when it is to be sent, milliseconds since 1970.
        kind: int8, index into `KINDS`.
        anomaly: int8, index into `ANOMALIES`.
        metrics: float64 (N, M).
    """

    number: I64
    device: I64
    seq: I64
    read_ms: I64
    time_ms: I64
    send_ms: F64
    kind: NDArray[np.int8]
    anomaly: NDArray[np.int8]
    metrics: F64

    def __len__(self) -> int:
        return len(self.number)

    def __getitem__(self, chosen: NDArray[np.bool_] | I64) -> Rows:
        """Some of them, in the order asked for."""
        return Rows(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def __add__(self, other: Rows) -> Rows:
        """These, then those."""
        return Rows(
            *(
                np.concatenate((getattr(self, field.name), getattr(other, field.name)))
                for field in fields(self)
            )
        )

    @property
    def is_predicted(self) -> NDArray[np.bool_]:
        """Whether each is expected to become a prediction."""
        return np.asarray(_OUTCOME[self.kind] == _PREDICTED)


def no_rows(metrics: int) -> Rows:
    """No rows, of so many metrics."""
    none, kind = np.zeros(0, np.int64), np.zeros(0, np.int8)
    return Rows(
        none, none, none, none, none, np.zeros(0), kind, kind, np.zeros((0, metrics))
    )  # fmt: skip


class Order:
    """What came before, by device and by partition: judges the rows of a log as they are sent.

    Args:
        devices: Of the fleet.
        partitions: Of the topic.

    Cost: 8 bytes a device.
    """

    def __init__(self, devices: int, partitions: int) -> None:
        self._newest = np.full(devices, NEVER // 2, np.int64)
        self.watermarks = np.full(partitions, NEVER, np.int64)
        """int64 (P,), newest event time of each partition so far, milliseconds since 1970."""

    def overtaken(self, devices: I64, times_ms: I64) -> NDArray[np.bool_]:
        """Which rows come after a newer one of their device; remembers all of them."""
        order = np.argsort(devices, kind="stable")
        device, time = devices[order], times_ms[order]
        first = np.ones(len(order), np.bool_)
        first[1:] = device[1:] != device[:-1]
        known = self._newest[device]
        # Runs of one device are set apart by more than any two times differ, so that one
        # accumulation over all rows is one over each device's.
        low, high = (int(time.min()), int(time.max())) if len(time) else (0, 0)
        apart = np.cumsum(first) * (high - low + 2)
        own = apart + time - low + 1
        held = apart + np.clip(known, low - 1, high + 1) - low + 1
        reached = np.maximum.accumulate(np.maximum(own, held))
        before = np.where(first, held, np.concatenate(([0], reached[:-1])))
        overtaken = np.empty(len(order), np.bool_)
        overtaken[order] = own < before
        np.maximum.at(self._newest, device, time)
        return overtaken

    def before(self, partitions: I64, times_ms: I64, counts: NDArray[np.bool_]) -> I64:
        """The watermark before each row; those that count raise it.

        Args:
            partitions: int64 (N,), partition of each row.
            times_ms: int64 (N,), event times.
            counts: bool (N,), the pipeline will take it for an event in time.

        Returns:
            int64 (N,), milliseconds since 1970; `NEVER` before a partition's first.
        """
        before = np.empty(len(partitions), np.int64)
        for partition in range(len(self.watermarks)):
            rows = np.flatnonzero(partitions == partition)
            times = np.where(counts[rows], times_ms[rows], NEVER)
            reached = np.maximum.accumulate(
                np.concatenate((self.watermarks[partition : partition + 1], times))
            )
            before[rows] = reached[:-1]
            self.watermarks[partition] = reached[-1]
        return before


def is_out(
    devices: I64, at_s: F64, share: F64 | float, length_s: F64 | float, seed: int, salt: int
) -> tuple[NDArray[np.bool_], F64]:
    """Whether each device is in one of its outages, and for how long it still is, seconds.

    Outages of one length come at one interval, so that they take `share` of the time; each device
    has its own.

    Args:
        devices: int64 (N,).
        at_s: float64 (N,), seconds into the run.
        share: Of the time, each device's.
        length_s: Of one outage, seconds, each device's.
        seed: Of the run.
        salt: Of the purpose.

    Returns:
        bool (N,) and float64 (N,), which is 0 outside.
    """
    cycle_s = length_s / np.maximum(share, 1e-9)
    into_s = (at_s + drawn(devices, seed, salt) * cycle_s) % cycle_s
    out = into_s < length_s
    return out, np.where(out, length_s - into_s, 0.0)


def plant(rows: Rows, kind: str, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the normal ones of the chosen rows; which were."""
    planted = chosen & (rows.kind == _KIND["normal"])
    rows.kind[planted] = _KIND[kind]
    return np.asarray(planted)
