"""What a drill sends: a log whose every record's fate is known before it is sent."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import orjson

from headrace.enrichers.cloudevents import ENVELOPE, place
from headrace.schemas.input import Input, Metric
from headrace.schemas.pipeline import Pipeline

DEVICES = 200
START_MS = 1_735_689_600_000
"""The past on every machine: a watermark is never later than the broker's time."""

STEP_MS = 1
LATE_BY_MS = 2500
"""How far a late event lies below what is allowed: more than the events between it and the
newest one can make up for."""

REPEAT_WITHIN = 500
"""A repeat is one of the last so many events, fewer where `allowed_lateness_s` is short."""

NO_TIME = "yesterday"
PER_MS = {"ms": 1, "us": 1000, "ns": 1_000_000}

Fate = Literal["valid", "repeat", "late", "dead"]
Mood = Literal["calm", "repeated", "reordered", "corrupted"]

OFTEN: Mapping[Mood, tuple[float, float]] = {"repeated": (0.5, 0.51), "corrupted": (0.01, 0.25)}
"""Up to which chances an event is sent again, and sent broken; in every other mood 1 in 100 each.
A quarter of dead letters is half of what stops a worker by default."""

APART_MS = 200
"""How far from its place in time an event of a reordered stretch may be."""


@dataclass(frozen=True, slots=True)
class Row:
    """One record to send, and what must become of it.

    Attributes:
        partition: Where it is sent.
        device: Its key and entity.
        value: Its bytes.
        fate: What it must become.
        event: Event id; empty where the contract has none.
        at_ms: Event time, milliseconds since 1970.
        code: Of a dead record, its dead letter's code.
    """

    partition: int
    device: str
    value: bytes
    fate: Fate
    event: str = ""
    at_ms: int = 0
    code: str = ""


@dataclass
class Load:
    """Records in the order they are sent; on new topics a record's offset is its place.

    Attributes:
        partitions: Partition count.
        rows: All of them.
        by_partition: The same by partition: index is offset.
    """

    partitions: int
    rows: list[Row] = field(default_factory=list)
    by_partition: dict[int, list[Row]] = field(init=False)

    def __post_init__(self) -> None:
        rows, self.rows = self.rows, []
        self.by_partition = {p: [] for p in range(self.partitions)}
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> None:
        """Put one record at the end."""
        self.rows.append(row)
        self.by_partition[row.partition].append(row)

    def places(self, fate: Fate) -> dict[tuple[int, int], Row]:
        """Partition and offset of every record of one fate."""
        return {
            (partition, offset): row
            for partition, rows in self.by_partition.items()
            for offset, row in enumerate(rows)
            if row.fate == fate
        }

    def fates(self) -> Counter[str]:
        """How many records of each fate there are."""
        return Counter(row.fate for row in self.rows)


class Fleet:
    """Devices that send what a pipeline's contract asks for, and now and then what it refuses.

    One event in a hundred each is sent again, sent broken, or sent late; in another mood half of
    them are sent again, or a quarter broken, or times go back and forth. Event times begin at a
    fixed moment and are `STEP_MS` apart: the same seed and moods give the same bytes.

    Args:
        pipeline: Its ``[input]`` says what an event looks like.
        seed: Gives every event.
        made: Events that were made before, by another fleet: these are later.
    """

    def __init__(self, pipeline: Pipeline, seed: int, made: int = 0) -> None:
        self.load = Load(pipeline.topics.partitions)
        self._events = _Events(pipeline.input)
        self._rng = random.Random(seed)  # noqa: S311 - a load, no secret
        self._late_ms = round(pipeline.input.allowed_lateness_s * 1000) + LATE_BY_MS
        within = round(pipeline.input.allowed_lateness_s * 1000 / STEP_MS) // 2
        self._apart_ms = min(APART_MS, round(pipeline.input.allowed_lateness_s * 1000) // 4)
        self._recent: deque[Row] = deque(maxlen=1 + min(REPEAT_WITHIN, within))
        self._number = self._first = made

    @property
    def made(self) -> int:
        """Events made so far, without what was planted among them."""
        return self._number

    def take(self, count: int, mood: Mood = "calm") -> list[Row]:
        """The next `count` events, and what is planted among them; they are in `load` then."""
        before = len(self.load.rows)
        for _ in range(count):
            for row in self._next(mood):
                self.load.add(row)
        return self.load.rows[before:]

    def _next(self, mood: Mood) -> list[Row]:
        rng, n = self._rng, self._number
        self._number += 1
        device, at_ms = rng.randrange(DEVICES), START_MS + n * STEP_MS
        if mood == "reordered":
            at_ms += rng.randint(-self._apart_ms, self._apart_ms)
        again_below, broken_below = OFTEN.get(mood, (0.01, 0.02))
        row = self._row(device, self._events.made(rng, f"d{device}", at_ms, n), "valid", n, at_ms)
        self._recent.append(row)
        chance = rng.random()
        if chance < again_below and self._events.has_id:
            again = rng.choice(self._recent)
            return [row, Row(again.partition, again.device, again.value, "repeat", again.event)]
        if chance < broken_below:
            value, code = self._events.broken(rng, f"d{device}", at_ms, n)
            if mood == "corrupted":
                value, code = corrupted(rng, row.value), "json.invalid"
            return [row, self._row(device, value, "dead", n, at_ms, code)]
        if chance < broken_below + 0.01 and n > self._first + 100:
            late_ms = at_ms - self._late_ms
            value = self._events.made(rng, f"d{device}", late_ms, n, "late")
            return [row, self._row(device, value, "late", n, late_ms)]
        return [row]

    def _row(
        self, device: int, value: bytes, fate: Fate, number: int, at_ms: int, code: str = ""
    ) -> Row:
        event = f"e{number}" if fate == "valid" and self._events.has_id else ""
        return Row(device % self.load.partitions, f"d{device}", value, fate, event, at_ms, code)


def make_load(pipeline: Pipeline, seed: int, count: int) -> Load:
    """`count` events of a fleet with what is planted among them, all at once."""
    fleet = Fleet(pipeline, seed)
    fleet.take(count)
    return fleet.load


class _Events:
    """Makes the payload that an ``[input]`` describes."""

    def __init__(self, spec: Input) -> None:
        self._spec = spec
        wrapped = spec.format == "cloudevents"
        self._wrap = place if wrapped else str
        self._unit = "iso" if wrapped and place(spec.time) in ENVELOPE else spec.time_unit
        self._bounded = [
            name for name, m in spec.metrics.items() if m.min is not None or m.max is not None
        ]
        self._codes = ["json.invalid"]
        if self._unit == "iso":
            self._codes.append("time.invalid")
        if self._bounded:
            self._codes.append("metric.range")

    @property
    def has_id(self) -> bool:
        """The contract has an event id, so that a repeat can be recognised."""
        return self._spec.id is not None

    def made(
        self, rng: random.Random, device: str, at_ms: int, number: int, kind: str = "e"
    ) -> bytes:
        """An event as it should be."""
        metrics = {name: _drawn(rng, m) for name, m in self._spec.metrics.items()}
        return self._encoded(rng, device, self._time(at_ms), f"{kind}{number}", metrics)

    def broken(self, rng: random.Random, device: str, at_ms: int, number: int) -> tuple[bytes, str]:
        """An event that can never be one, and the code that says why."""
        code = rng.choice(self._codes)
        metrics = {name: _drawn(rng, m) for name, m in self._spec.metrics.items()}
        time = NO_TIME if code == "time.invalid" else self._time(at_ms)
        if code == "metric.range":
            name = rng.choice(self._bounded)
            metrics[name] = _outside(self._spec.metrics[name])
        value = self._encoded(rng, device, time, f"broken{number}", metrics)
        return (value[:-1] if code == "json.invalid" else value), code

    def _encoded(
        self,
        rng: random.Random,
        device: str,
        time: object,
        event: str,
        metrics: Mapping[str, float],
    ) -> bytes:
        spec = self._spec
        leaves: dict[str, object] = {spec.entity: device, spec.time: time}
        if spec.id is not None:
            leaves[spec.id] = event
        if spec.sequence is not None:
            leaves[spec.sequence] = int(event.lstrip("abcdefghijklmnopqrstuvwxyz"))
        for name, attribute in spec.attributes.items():
            leaves[spec.attribute_path(name)] = rng.choice(attribute.values or ("drill",))
        leaves |= {spec.metric_path(name): value for name, value in metrics.items()}
        tree: dict[str, Any] = {}
        if spec.format == "cloudevents":
            tree = {"specversion": "1.0", "type": "headrace.drill", "source": "drill", "id": event}
        for path, leaf in leaves.items():
            _put(tree, self._wrap(path), leaf)
        return orjson.dumps(tree)

    def _time(self, at_ms: int) -> object:
        if self._unit == "iso":
            return f"{np.datetime64(at_ms, 'ms')}Z"
        return at_ms / 1000 if self._unit == "s" else at_ms * PER_MS[self._unit]


def corrupted(rng: random.Random, value: bytes) -> bytes:
    """What a bad wire or disk makes of an event's bytes: never an event."""
    kind = rng.randrange(3)
    if kind == 0:
        return value[: rng.randrange(1, len(value))]
    if kind == 1:
        return bytes(len(value))
    return bytes(rng.randrange(128, 256) for _ in value)


def _put(tree: dict[str, Any], path: str, leaf: object) -> None:
    *above, last = path.split(".")
    for name in above:
        tree = tree.setdefault(name, {})
    tree[last] = leaf


def _drawn(rng: random.Random, metric: Metric) -> float:
    """A number within the metric's bounds."""
    low = metric.min if metric.min is not None else min(0.0, metric.max or 0.0) - 100.0
    high = metric.max if metric.max is not None else max(0.0, low) + 100.0
    return min(max(round(rng.uniform(low, high), 4), low), high)


def _outside(metric: Metric) -> float:
    """A number beyond the metric's bounds."""
    if metric.max is not None:
        return metric.max + abs(metric.max) + 1.0
    low = metric.min or 0.0
    return low - abs(low) - 1.0
