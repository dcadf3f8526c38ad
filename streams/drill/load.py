"""What a campaign sends: a log whose every record's fate is known before it is sent."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

PARTITIONS, DEVICES = 4, 200
START_MS = 1_795_255_200_000
LATENESS_MS, LATE_BY_MS = 2000, 4500

Fate = Literal["valid", "repeat", "late", "dead"]


@dataclass(frozen=True, slots=True)
class Row:
    """One record to send, and what must become of it."""

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
        rows: All of them.
        by_partition: The same by partition: index is offset.
    """

    rows: list[Row]
    by_partition: dict[int, list[Row]] = field(init=False)

    def __post_init__(self) -> None:
        self.by_partition = {p: [] for p in range(PARTITIONS)}
        for row in self.rows:
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


def make_load(seed: int, count: int) -> Load:
    """`count` events with planted repeats, late events and three kinds of broken records."""
    rng = random.Random(seed)
    rows: list[Row] = []
    sent: list[Row] = []
    for n in range(count):
        event = _event(rng, n)
        device = rng.randrange(DEVICES)
        row = _row(device, event, START_MS + n, "valid", f"e{n}")
        rows.append(row)
        sent.append(row)
        chance = rng.random()
        if chance < 0.01:
            again = sent[rng.randrange(max(0, n - 500), n + 1)]
            rows.append(
                _row(int(again.device[1:]), None, again.at_ms, "repeat", again.event, again)
            )
        elif chance < 0.02:
            rows.append(_broken(rng, device, event, n))
        elif chance < 0.03 and n > 100:
            rows.append(_row(device, event, START_MS + n - LATE_BY_MS, "late", f"late{n}"))
    return Load(rows)


def _event(rng: random.Random, n: int) -> dict[str, object]:
    return {"load": round(rng.random(), 4), "heat": round(rng.gauss(50, 9), 3)}


def _row(
    device: int,
    metrics: dict[str, object] | None,
    at_ms: int,
    fate: Fate,
    event: str,
    again: Row | None = None,
) -> Row:
    name = f"d{device}"
    value = again.value if again else _encoded(name, metrics, at_ms, event)
    return Row(device % PARTITIONS, name, value, fate, event, at_ms)


def _broken(rng: random.Random, device: int, metrics: dict[str, object], n: int) -> Row:
    name, at_ms, event = f"d{device}", START_MS + n, f"broken{n}"
    code = rng.choice(["json.invalid", "time.invalid", "metric.range"])
    value = {
        "json.invalid": _encoded(name, metrics, at_ms, event)[:-2],
        "time.invalid": _encoded(name, metrics, None, event),
        "metric.range": _encoded(name, metrics | {"load": 99.0}, at_ms, event),
    }[code]
    return Row(device % PARTITIONS, name, value, "dead", event, at_ms, code)


def _encoded(name: str, metrics: object, at_ms: int | None, event: str) -> bytes:
    time = "yesterday" if at_ms is None else f"{np.datetime64(at_ms, 'ms')}Z"
    return json.dumps({"id": event, "device_id": name, "time": time, "metrics": metrics}).encode()
