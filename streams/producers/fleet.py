"""A simulated fleet: events of many kinds of devices, and what must become of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.schemas.pipeline import Pipeline
from headrace.streams.producers.arrivals import level
from headrace.streams.producers.chance import F64, I64, drawn, stream
from headrace.streams.producers.delivery_plan import (
    BROKER_BEHIND_MS,
    FUTURE_MS,
    LATEST_MS,
    NEVER,
    Order,
    Rows,
    is_out,
    no_rows,
    plant,
)
from headrace.streams.producers.event_text import EventText, texts
from headrace.streams.producers.fleet_devices import LARGEST_BYTES, Devices
from headrace.streams.producers.plan import CLOCK_SHARE, HOLD_SHARE, KINDS, MARGIN_SHARE, Plan
from headrace.streams.producers.signals import Signals

BLOCK_MS = 50
"""So much time is made at once."""
REMEMBERED, REMEMBERED_OF_BLOCK = 4_000, 64
"""Events kept to be sent again: some of each of the newest blocks."""
POOL_BYTES = 1 << 16
GAP_S = 5.0
_OFFLINE, _GAP, _RAW = range(200, 203)


@dataclass(frozen=True, slots=True)
class Block:
    """Events of one stretch of time, in the order they are to be sent.

    Attributes:
        rows: All of them, then those that are never sent (kind ``gap``).
        partitions: int64 (N,), of each row.
        keys: Of each row: the device's id.
        values: Of those that are sent; they come first.
    """

    rows: Rows
    partitions: I64
    keys: list[bytes]
    values: list[bytes]


class Fleet:
    """Makes the events of a `Plan` block by block, the same bytes for the same arguments.

    Args:
        plan: What is asked for.
        pipeline: Its ``[input]`` says what an event looks like.
        partitions: Of the telemetry topic.
        start_ms: When the run begins, milliseconds since 1970.

    Cost: some 20 bytes a device, 8 more with skew, and the events that wait for a connection.
    """

    def __init__(self, plan: Plan, pipeline: Pipeline, partitions: int, start_ms: int) -> None:
        spec = pipeline.input
        self.plan, self.start_ms = plan, start_ms
        self.run = plan.run(start_ms, spec)
        self._spec = spec
        self._text = EventText(spec, f"urn:headrace:fleet:{self.run}")
        self._signals = Signals(spec.metrics, plan.seed, plan.anomalies)
        self._lateness_ms = spec.allowed_lateness_s * 1000
        self._devices = Devices(plan, spec, partitions)
        self._order = Order(plan.devices, partitions)
        self._seq = np.zeros(plan.devices, np.int32)
        self._pool = np.random.default_rng(plan.seed).integers(
            97, 123, POOL_BYTES, np.uint8
        ).tobytes()  # fmt: skip
        self._waiting = self._recent = no_rows(len(spec.metrics))
        self._number, self._block, self._own_s = 0, 0, 0.0

    @property
    def made(self) -> int:
        """Readings so far."""
        return self._number

    def take(self) -> Block | None:
        """The next `BLOCK_MS` of the run; None when it and all that waited is over."""
        begin_s = self._block * BLOCK_MS / 1000
        if begin_s >= self.plan.seconds and not len(self._waiting):
            return None
        chance = stream(self.plan.seed, self._block)
        fresh = self._read(begin_s, chance)
        self._block += 1
        rows = self._waiting + fresh
        is_gap = rows.kind == KINDS.index("gap")
        due = rows.send_ms < self.start_ms + self._block * BLOCK_MS
        self._waiting = rows[~due & ~is_gap]
        sent = rows[due & ~is_gap]
        return self._sent(sent, rows[is_gap], chance)

    def _read(self, begin_s: float, chance: np.random.Generator) -> Rows:
        """Readings of the next stretch, with the time each will be sent."""
        ended = begin_s >= self.plan.seconds
        speed = 0.0 if ended else level(self.plan.pattern, begin_s)
        begin, self._own_s = self._own_s, self._own_s + speed * BLOCK_MS / 1000
        parts = [
            (kind.first + device, begin_s + (at - begin) / (speed or 1.0))
            for kind in self._devices.kinds
            for device, at in [kind.arrivals.between(begin, self._own_s, chance)]
        ]
        at_s = np.concatenate([at for _, at in parts])
        order = np.argsort(at_s, kind="stable")
        device, at_s = np.concatenate([d for d, _ in parts])[order], at_s[order]
        period_s = self._devices.table("period_s", device)
        metrics, anomaly = self._signals.read(device, at_s, period_s, chance)
        number = self._number + np.arange(len(device))
        self._number += len(device)
        read_ms = self.start_ms + (at_s * 1000).astype(np.int64)
        time_ms = read_ms + self._devices.clock_ms(device).astype(np.int64)
        rows = Rows(
            number, device, self._count(device), read_ms, time_ms,
            self.start_ms + at_s * 1000, np.zeros(len(device), np.int8), anomaly, metrics,
        )  # fmt: skip
        self._deliver(rows, at_s, speed, chance)
        return rows

    def _deliver(self, rows: Rows, at_s: F64, speed: float, chance: np.random.Generator) -> None:
        """Say when each reading is sent, and which never."""
        plan, count, table = self.plan, len(rows), self._devices.table
        lost, _ = is_out(rows.device, at_s, plan.gaps, GAP_S, plan.seed, _GAP)
        plant(rows, "gap", lost & (plan.gaps > 0))
        offline, left_s = is_out(
            rows.device, at_s, table("offline_share", rows.device),
            table("offline_s", rows.device), plan.seed, _OFFLINE,
        )  # fmt: skip
        plant(rows, "delayed", offline)
        hold_ms = self._lateness_ms * HOLD_SHARE / 2
        slow_ms = table("period_s", rows.device) * 1000 * (1.5 + chance.random(count))
        slow = (chance.random(count) < plan.out_of_order) & (slow_ms < hold_ms)
        slow_ms *= plant(rows, "out_of_order", slow)
        way_ms = table("delay_ms", rows.device) * chance.standard_exponential(count)
        # A device's events keep their order on the way, but for those that were planted.
        way_ms = np.minimum(way_ms, 400 * table("period_s", rows.device) / (speed or 1.0))
        # What was held comes in the order it was read: it waits no longer on its way.
        rows.send_ms += np.where(offline, left_s * 1000, np.minimum(way_ms, hold_ms) + slow_ms)

    def _sent(self, rows: Rows, lost: Rows, chance: np.random.Generator) -> Block:
        """Put the rows of a block into their order, plant what depends on it, write the bytes."""
        rows = rows + self._repeats(len(rows), chance)
        rows = rows[np.lexsort((rows.number, rows.send_ms))]
        partitions = self._devices.partition[rows.device].astype(np.int64)
        self._plant(rows, partitions, chance)
        self._remember(rows)
        keys = self._devices.keys(rows.device)
        values = self._write(rows, keys)
        beside = self._devices.partition[lost.device].astype(np.int64)
        return Block(
            rows + lost,
            np.concatenate((partitions, beside)),
            keys + self._devices.keys(lost.device),
            values,
        )

    def _plant(self, rows: Rows, partitions: I64, chance: np.random.Generator) -> None:
        """Make some rows late or of the future, and find out who was overtaken."""
        plan, count = self.plan, len(rows)
        choice, below_ms = chance.random(count), chance.random(count) * LATEST_MS
        future = plant(rows, "future", choice < plan.future)
        rows.time_ms[future] += FUTURE_MS
        late = (choice >= plan.future) & (choice < plan.future + plan.late)
        # Nothing is late before a partition's first event.
        late = plant(rows, "late", late & (self._order.watermarks[partitions] > NEVER))
        counts = rows.is_predicted
        # The pipeline counts no time as later than the broker's, which is that of sending or later.
        least_ms = np.minimum(rows.time_ms, rows.send_ms.astype(np.int64))
        before = self._order.before(partitions, least_ms, counts)
        below_ms += self._lateness_ms + BROKER_BEHIND_MS
        rows.time_ms[late] = before[late] - below_ms[late].astype(np.int64)
        told = np.flatnonzero(counts)
        overtaken = self._order.overtaken(rows.device[told], rows.time_ms[told])
        # What was slow on its way may have been overtaken by nobody, and what was not may have.
        kind, slow = rows.kind[told], KINDS.index("out_of_order")
        rows.kind[told] = np.where(
            overtaken & (kind == 0), slow, np.where(~overtaken & (kind == slow), 0, kind)
        )

    def _repeats(self, count: int, chance: np.random.Generator) -> Rows:
        """Events of before that are sent again now, beside `count` new ones."""
        recent, end_ms = self._recent, self.start_ms + self._block * BLOCK_MS
        wanted = chance.poisson(self.plan.repeats * count) if self._spec.id else 0
        # Whatever the watermark is by then, none of them is late.
        oldest_ms = end_ms - self._lateness_ms * (1 - CLOCK_SHARE - MARGIN_SHARE)
        fit = np.flatnonzero(recent.time_ms > oldest_ms)
        rows = recent[np.unique(fit[chance.integers(0, len(fit), wanted)]) if len(fit) else fit]
        rows.kind[:] = KINDS.index("repeat")
        rows.send_ms[:] = end_ms - BLOCK_MS * (1 - chance.random(len(rows)))
        return rows

    def _remember(self, rows: Rows) -> None:
        """Keep some of a block's events, and forget the oldest."""
        told = np.flatnonzero(rows.is_predicted)
        kept = told[:: -(-len(told) // REMEMBERED_OF_BLOCK) or 1]
        recent = self._recent + rows[kept]
        self._recent = recent[np.arange(max(0, len(recent) - REMEMBERED), len(recent))]

    def _write(self, rows: Rows, keys: list[bytes]) -> list[bytes]:
        """The bytes of each row: the same whenever it is sent."""
        run, devices = self.run.encode(), self._devices
        first = (drawn(rows.number, self.plan.seed, _RAW) * (POOL_BYTES - LARGEST_BYTES)).astype(
            np.int64
        )
        size = devices.table("payload_bytes", rows.device).astype(np.int64)
        raw = [
            b'"raw-%b-%b"' % (run, self._pool[begin:end])
            for begin, end in zip(first.tolist(), (first + size).tolist(), strict=True)
        ]
        return self._text.write(
            ids=[b'"%b-%b"' % (run, number) for number in texts(rows.number)],
            devices=[b'"%b"' % key for key in keys],
            times_ms=rows.time_ms,
            seqs=rows.seq,
            labels=devices.labels(rows.device),
            metrics=rows.metrics,
            raw=raw,
            personal=[b'"person-%b-%b"' % (run, who) for who in texts(rows.device)],
        )

    def _count(self, devices: I64) -> I64:
        """The next number of each reading's own device."""
        order = np.argsort(devices, kind="stable")
        sorted_devices = devices[order]
        place = np.arange(len(order))
        first = np.ones(len(order), np.bool_)
        first[1:] = sorted_devices[1:] != sorted_devices[:-1]
        since = place - np.maximum.accumulate(np.where(first, place, 0))
        seqs = np.empty(len(order), np.int64)
        seqs[order] = self._seq[sorted_devices] + since
        np.maximum.at(self._seq, devices, (seqs + 1).astype(np.int32))
        return seqs
