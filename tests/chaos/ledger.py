"""The ledger: what a campaign left on its topics, held against what was promised."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from chaos.load import Load

from headrace.schemas.block import FeatureBlock
from headrace.schemas.ids import prediction_ids

Place = tuple[int, int]
Records = dict[int, list[tuple[bytes | None, bytes, Sequence[tuple[str, bytes]]]]]

HANDOVER_BYTES = 4 << 20
"""Most bytes of blocks that the transport hands over at once: twice its `fetch_bytes`."""


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
    late: Seen = field(default_factory=Seen)
    summaries: Seen = field(default_factory=Seen)
    ids: dict[Place, str] = field(default_factory=dict)
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
    late = {row.event: place for place, row in load.places("late").items()}
    for partition, records in dump.deadletter.items():
        for _, value, headers in records:
            facts = {name: text.decode() for name, text in headers}
            offset = int(facts["source"].rpartition("@")[2])
            found.dead.follow(partition, offset)
            found.dead.add((partition, offset), (facts["code"], facts["stage"], value))
    for partition, records in dump.late.items():
        for key, value, _ in records:
            event = json.loads(value)["id"]
            if event not in late:
                found.unknown.append(f"late event {event}")
                continue
            found.late.follow(partition, late[event][1])
            found.late.add(late[event], (key, value))
    for _, value, _ in (record for records in dump.summaries.values() for record in records):
        record = json.loads(value)
        place = record["partition"], record["window_start_ms"], record["group"]
        found.summaries.add(place, {k: v for k, v in record.items() if "pipeline" not in k})
    return found


def _features(found: Found, partition: int, number: int, value: bytes) -> None:
    block = FeatureBlock.decode(value)
    found.flagged += block.rebuilt
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
        fact = (block.entities.names[entity], at, logged, event, row.tobytes())
        if found.features.add((partition, offset), fact):
            found.blocks[partition, offset] = (number, len(value))


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
        if found.predictions.add((partition, offset), prediction):
            if offset < highest.get(device, -1):
                found.out_of_order.append(f"{device} at {partition}@{offset}")
            highest[device] = max(highest.get(device, -1), offset)
    expected = prediction_ids(dump.pipeline, dump.telemetry, partition, np.array(offsets, np.int64))
    found.wrong_ids += sum(
        ours != theirs.decode() for ours, theirs in zip(ids, expected, strict=True)
    )


def breaches(
    load: Load,
    found: Found,
    calm: Found,
    *,
    kills: Mapping[str, int],
    batch_rows: int | None,
) -> list[str]:
    """Everything in which a run under fire differs from what was promised.

    Args:
        load: What was sent.
        found: What the run under fire left.
        calm: What a fault-free run over the same log left.
        kills: How often workers of each stage were killed.
        batch_rows: The pipeline's; None where the store was lost too: then stretches are as long
            as what was published since the group's last commit.
    """
    wrong: list[str] = []
    for what in ("features", "predictions", "dead", "late", "summaries"):
        ours, theirs = getattr(found, what), getattr(calm, what)
        wrong += _compared(what, ours, theirs)
        if theirs.repeats:
            wrong.append(f"{what}: the fault-free run repeated {theirs.repeats}")
    wrong += _fates(load, found)
    wrong += [f"out of its device's order: {which}" for which in found.out_of_order[:3]]
    wrong += found.unknown[:3]
    if found.wrong_ids:
        wrong.append(f"{found.wrong_ids} predictions have another id than their source gives")
    if found.flagged:
        wrong.append(f"{found.flagged} are flagged, and no history was lost")
    return wrong + _windows(load, found) + _bounds(found, kills, batch_rows)


def doubled(found: Found) -> list[str]:
    """Everything that a reader of committed records saw twice; exactly-once allows none."""
    names = ("features", "predictions", "dead", "late", "summaries")
    repeats = {what: getattr(found, what).repeats for what in names}
    return [f"{what}: {count} doubled" for what, count in repeats.items() if count]


def _compared(what: str, ours: Seen, theirs: Seen) -> list[str]:
    wrong = [f"{what}: {len(ours.differing)} repeats differ, first {ours.differing[:1]}"]
    lost = sorted(theirs.first.keys() - ours.first.keys())
    more = sorted(ours.first.keys() - theirs.first.keys())
    changed = [p for p in ours.first if p in theirs.first and ours.first[p] != theirs.first[p]]
    wrong.append(f"{what}: {len(lost)} lost, first {lost[:1]}")
    wrong.append(f"{what}: {len(more)} that the fault-free run has not, first {more[:1]}")
    wrong.append(f"{what}: {len(changed)} differ from the fault-free run, first {changed[:1]}")
    return [
        line for line, bad in zip(wrong, (ours.differing, lost, more, changed), strict=True) if bad
    ]


def _fates(load: Load, found: Found) -> list[str]:
    """What was sent must have become what it was meant to, whatever the fault-free run says."""
    wrong = []
    valid, dead, late = load.places("valid"), load.places("dead"), load.places("late")
    events = {place: row.event for place, row in valid.items()}
    if {p: fact["event_id"] for p, fact in found.predictions.first.items()} != events:
        wrong.append("predictions: not exactly the valid events")
    if found.features.first.keys() != valid.keys():
        wrong.append("features: not exactly the valid events")
    codes = {place: (row.code, "enrich", row.value) for place, row in dead.items()}
    if found.dead.first != codes:
        wrong.append("dead letters: not exactly the broken records under their codes")
    kept = {place: (row.device.encode(), row.value) for place, row in late.items()}
    if found.late.first != kept:
        wrong.append("late events: not exactly the late ones")
    return wrong


def _windows(load: Load, found: Found) -> list[str]:
    """Every released window counts exactly the valid events in it."""
    valid = load.places("valid")
    times = {p: [row.at_ms for (q, _), row in valid.items() if q == p] for p in load.by_partition}
    wrong = []
    for (partition, start, _), record in found.summaries.first.items():
        end = record["window_end_ms"]
        rows = sum(start <= at < end for at in times[partition])
        if record["rows"] != rows:
            wrong.append(f"summaries: window {start} of {partition} has {record['rows']} of {rows}")
    return wrong[:3]


def _bounds(found: Found, kills: Mapping[str, int], batch_rows: int | None) -> list[str]:
    """A kill repeats at most the batch in hand of each partition of the killed stage."""
    wrong = []
    limits = {"features": "enrich", "dead": "enrich", "late": "enrich", "predictions": "serve"}
    for what, stage in limits.items():
        stretches: list[Stretch] = getattr(found, what).stretches
        counts = Counter(stretch.partition for stretch in stretches)
        for partition, count in counts.items():
            if count > kills.get(stage, 0):
                wrong.append(
                    f"{what}: partition {partition} was repeated {count} times, "
                    f"{stage} was killed {kills.get(stage, 0)} times"
                )
        if batch_rows is not None:
            wrong += [
                f"{what}: a repeat is longer than a batch: {stretch}"
                for stretch in stretches
                if not _within_a_batch(found, stage, stretch, batch_rows)
            ]
    return wrong


def _within_a_batch(found: Found, stage: str, stretch: Stretch, batch_rows: int) -> bool:
    if stage == "enrich":
        return stretch.last - stretch.first < batch_rows
    blocks = {
        block
        for (partition, offset), block in found.blocks.items()
        if partition == stretch.partition and stretch.first <= offset <= stretch.last
    }
    size = sum(size for _, size in blocks)
    return len(blocks) <= batch_rows and (len(blocks) == 1 or size <= HANDOVER_BYTES)
