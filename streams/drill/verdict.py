"""The verdict: in what a run under fire differs from what is promised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from headrace.streams.drill.ledger import Found, Seen, Stretch
from headrace.streams.drill.load import Fate, Load

TOPICS = ("features", "predictions", "dead", "late", "summaries")

HANDOVER_BYTES = 4 << 20
"""Most bytes of blocks that the transport hands over at once: twice its `fetch_bytes`."""


@dataclass(frozen=True)
class Tally:
    """What went wrong, in numbers.

    Attributes:
        lost: Events sent that did not become what they had to: prediction, dead letter, late.
        differing: Repeats unlike the first, and records unlike those of the fault-free run.
        out_of_order: Predictions behind a later one of their device.
        repeated: Records published again, equal or not, before a consumer drops them.
    """

    lost: int
    differing: int
    out_of_order: int
    repeated: int


def tally(load: Load, found: Found, calm: Found) -> Tally:
    """Count what went wrong in a run under fire.

    Args:
        load: What was sent.
        found: What the run under fire left.
        calm: What a fault-free run over the same log left.
    """
    fates: tuple[tuple[Fate, Seen], ...] = (
        ("valid", found.predictions), ("dead", found.dead), ("late", found.late)
    )  # fmt: skip
    lost = sum(len(load.places(fate).keys() - seen.first.keys()) for fate, seen in fates)
    pairs = [(getattr(found, what), getattr(calm, what)) for what in TOPICS]
    return Tally(
        lost=lost,
        differing=sum(len(ours.differing) + len(_changed(ours, theirs)) for ours, theirs in pairs),
        out_of_order=len(found.out_of_order),
        repeated=sum(ours.repeats for ours, _ in pairs),
    )


def repeated(found: Found) -> list[str]:
    """Every topic on which something is there twice: with exactly-once delivery a breach."""
    repeats = {what: getattr(found, what).repeats for what in TOPICS}
    return [f"{what}: {count} are there twice" for what, count in repeats.items() if count]


def breaches(
    load: Load,
    found: Found,
    calm: Found,
    *,
    repeats: Mapping[str, int] | None,
    batch_rows: int | None,
) -> list[str]:
    """Everything in which a run under fire differs from what was promised.

    Args:
        load: What was sent.
        found: What the run under fire left.
        calm: What a fault-free run over the same log left.
        repeats: How often each stage may have repeated a stretch of a partition; None where
            that is not bounded, as when the bus itself went away.
        batch_rows: The pipeline's; None where the store was lost too: then stretches are as long
            as what was published since the group's last commit.
    """
    wrong: list[str] = []
    for what in TOPICS:
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
    wrong += _windows(load, found)
    return wrong if repeats is None else wrong + _bounds(found, repeats, batch_rows)


def _compared(what: str, ours: Seen, theirs: Seen) -> list[str]:
    wrong = [f"{what}: {len(ours.differing)} repeats differ, first {ours.differing[:1]}"]
    lost = sorted(theirs.first.keys() - ours.first.keys())
    more = sorted(ours.first.keys() - theirs.first.keys())
    changed = _changed(ours, theirs)
    wrong.append(f"{what}: {len(lost)} lost, first {lost[:1]}")
    wrong.append(f"{what}: {len(more)} that the fault-free run has not, first {more[:1]}")
    wrong.append(f"{what}: {len(changed)} differ from the fault-free run, first {changed[:1]}")
    return [
        line for line, bad in zip(wrong, (ours.differing, lost, more, changed), strict=True) if bad
    ]


def _changed(ours: Seen, theirs: Seen) -> list[object]:
    return [p for p, fact in ours.first.items() if theirs.first.get(p, fact) != fact]


def _fates(load: Load, found: Found) -> list[str]:
    """What was sent must have become what it was meant to, whatever the fault-free run says."""
    wrong = []
    valid, dead, late = load.places("valid"), load.places("dead"), load.places("late")
    events = {place: row.event for place, row in valid.items() if row.event}
    ids = {p: fact[0] for p, fact in found.predictions.first.items()}
    if ids.keys() != valid.keys() or (events and ids != events):
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
    """The groups of every released window count exactly the valid events in it."""
    times: dict[int, list[int]] = {p: [] for p in load.by_partition}
    for (partition, _), row in load.places("valid").items():
        times[partition].append(row.at_ms)
    counted: Counter[tuple[int, int, int]] = Counter()
    for (partition, start, _), record in found.summaries.first.items():
        counted[partition, start, record["window_end_ms"]] += record["rows"]
    wrong = []
    for (partition, start, end), count in counted.items():
        rows = sum(start <= at < end for at in times[partition])
        if count != rows:
            wrong.append(f"summaries: window {start} of {partition} has {count} of {rows}")
    return wrong[:3]


def _bounds(found: Found, allowed: Mapping[str, int], batch_rows: int | None) -> list[str]:
    """A fault repeats at most the batch in hand of each partition of the stage it strikes."""
    wrong = []
    limits = {"features": "enrich", "dead": "enrich", "late": "enrich", "predictions": "serve"}
    for what, stage in limits.items():
        stretches: list[Stretch] = getattr(found, what).stretches
        counts = Counter(stretch.partition for stretch in stretches)
        for partition, count in counts.items():
            if count > allowed.get(stage, 0):
                wrong.append(
                    f"{what}: partition {partition} was repeated {count} times, "
                    f"the faults of {stage} explain {allowed.get(stage, 0)} times"
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
