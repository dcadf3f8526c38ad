"""The ledger: what a run left on its topics, by the source record that caused it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headrace.schemas.batch import Headers
from headrace.schemas.block import FeatureBlock
from headrace.schemas.ids import prediction_ids
from headrace.streams.agents.isolate import FAILED
from headrace.streams.drill.load import Load

Place = tuple[int, int]
Records = dict[int, list[tuple[bytes | None, bytes, Headers]]]


@dataclass
class Dump:
    """Every record of a pipeline's output topics by partition, as read from the beginning."""

    pipeline: str
    telemetry: str
    features: Records
    predictions: Records
    deadletter: Records
    late: Records
    summaries: Records


@dataclass
class Stretch:
    """Source offsets, first to last, that were published again in one go."""

    partition: int
    first: int
    last: int


@dataclass
class Seen:
    """First appearances, and what appeared again."""

    first: dict[Any, Any] = field(default_factory=dict)
    repeats: int = 0
    differing: list[Any] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)
    _high: dict[int, int] = field(default_factory=dict)
    _last: dict[int, int] = field(default_factory=dict)

    def add(self, place: Any, fact: Any) -> bool:
        """Note one appearance; whether it is the first."""
        if place not in self.first:
            self.first[place] = fact
            return True
        self.repeats += 1
        if self.first[place] != fact:
            self.differing.append(place)
        return False

    def follow(self, partition: int, offset: int) -> None:
        """Note the next source offset published from a partition: a step back begins a stretch."""
        high, last = self._high.get(partition, -1), self._last.get(partition, -1)
        if offset <= high:
            if offset <= last or last == high:
                self.stretches.append(Stretch(partition, offset, offset))
            self.stretches[-1].last = offset
        self._high[partition], self._last[partition] = max(high, offset), offset


@dataclass
class Found:
    """A dump, understood."""

    features: Seen = field(default_factory=Seen)
    predictions: Seen = field(default_factory=Seen)
    dead: Seen = field(default_factory=Seen)
    refused: Seen = field(default_factory=Seen)
    """Events that became features and that the model then refused: SERVE's dead letters."""
    late: Seen = field(default_factory=Seen)
    summaries: Seen = field(default_factory=Seen)
    blocks: dict[Place, tuple[int, int]] = field(default_factory=dict)
    """Of each row the number of the block it first came in, and that block's bytes."""
    out_of_order: list[str] = field(default_factory=list)
    flagged: int = 0
    wrong_ids: int = 0
    unknown: list[str] = field(default_factory=list)


def understand(load: Load, dump: Dump) -> Found:
    """Every topic of `dump`, by source record."""
    found = Found()
    for partition, records in dump.features.items():
        for number, (_, value, _) in enumerate(records):
            _features(found, partition, number, value)
    for partition, records in dump.predictions.items():
        _predictions(found, dump, partition, records)
    late = {(place[0], row.value): place for place, row in load.places("late").items()}
    for partition, records in dump.deadletter.items():
        for _, value, headers in records:
            facts = {name: (text or b"").decode() for name, text in headers}
            offset = int(facts["source"].rpartition("@")[2])
            seen = found.refused if facts["code"] == FAILED else found.dead
            seen.follow(partition, offset)
            seen.add((partition, offset), (facts["code"], facts["stage"], value))
    for partition, records in dump.late.items():
        for key, value, _ in records:
            place = late.get((partition, value))
            if place is None:
                found.unknown.append(f"a late event on partition {partition} that none sent late")
                continue
            found.late.follow(partition, place[1])
            found.late.add(place, (key, value))
    _summaries(found, [record for records in dump.summaries.values() for record in records])
    return found


def _summaries(found: Found, records: Sequence[Any]) -> None:
    """Of each window and group the last revision; every revision was released once."""
    revisions = found.summaries
    last: dict[tuple[int, str], dict[str, Any]] = {}
    for _, value, _ in records:
        record = {k: v for k, v in json.loads(value).items() if "pipeline" not in k}
        window, rev = (record["window_start_ms"], record["group"]), record.pop("rev", 0)
        if revisions.add((*window, rev), record):
            last[window] = record
    revisions.first = last


def _features(found: Found, partition: int, number: int, value: bytes) -> None:
    block = FeatureBlock.decode(value)
    found.flagged += block.rebuilt
    place = number, len(value)
    columns = zip(
        block.offsets.tolist(),
        block.entities.codes.tolist(),
        block.event_times_ms.tolist(),
        block.log_times_ms.tolist(),
        block.event_ids,
        block.features,
        strict=True,
    )
    for offset, entity, at, logged, event, row in columns:
        found.features.follow(partition, offset)
        fact = _digest(repr((block.entities.names[entity], at, logged, event)), row.tobytes())
        if found.features.add((partition, offset), fact):
            found.blocks[partition, offset] = place


def _predictions(found: Found, dump: Dump, partition: int, records: Sequence[Any]) -> None:
    """Two facts of the serving moment, and no others, may differ between repeats."""
    highest: dict[str, int] = {}
    offsets: list[int] = []
    ids: list[str] = []
    for key, value, _ in records:
        prediction = json.loads(value)
        prediction["times_ms"].pop("served")
        prediction.pop("tier")
        topic, _, place = prediction["source"].partition("[")
        origin, _, at = place.partition("]@")
        offset, device = int(at), prediction["device_id"]
        if (topic, int(origin), key) != (dump.telemetry, partition, device.encode()):
            found.unknown.append(f"prediction of {prediction['source']} on partition {partition}")
        offsets.append(offset)
        ids.append(prediction.pop("id"))
        found.flagged += bool(prediction["flags"])
        found.predictions.follow(partition, offset)
        fact = prediction["event_id"], _digest(json.dumps(prediction, sort_keys=True))
        if found.predictions.add((partition, offset), fact):
            if offset < highest.get(device, -1):
                found.out_of_order.append(f"{device} at {partition}@{offset}")
            highest[device] = max(highest.get(device, -1), offset)
    expected = prediction_ids(dump.pipeline, dump.telemetry, partition, np.array(offsets, np.int64))
    found.wrong_ids += sum(
        ours != theirs.decode() for ours, theirs in zip(ids, expected, strict=True)
    )


def _digest(text: str, data: bytes = b"") -> bytes:
    """Stands for a fact: a long run has millions, and only whether they are equal counts."""
    return hashlib.blake2b(text.encode() + b"\0" + data, digest_size=16).digest()
