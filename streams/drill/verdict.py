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
    ended = {
        "valid": found.predictions.first.keys() | found.refused.first.keys(),
        "dead": found.dead.first.keys(),
        "late": found.late.first.keys(),
    }
    fates: tuple[Fate, ...] = ("valid", "dead", "late")
    lost = sum(len(load.places(fate).keys() - ended[fate]) for fate in fates)
    pairs = [(getattr(found, what), getattr(calm, what)) for what in _compared_topics(found)]
    return Tally(
        lost=lost,
        differing=sum(len(ours.differing) + len(_changed(ours, theirs)) for ours, theirs in pairs),
        out_of_order=len(found.out_of_order),
        repeated=sum(ours.repeats for ours, _ in pairs),
    )


def account(load: Load, found: Found) -> dict[str, int]:
    """What became of every record sent: ``in`` is the sum of the others where none is lost.

    Returns:
        ``in``; ``predicted``; ``refused`` by the model and not predicted; ``dead``; ``late``; and
        ``repeated``: events sent again of which nothing came.
    """
    repeats = load.places("repeat").keys()
    predicted, refused = found.predictions.first.keys(), found.refused.first.keys()
    return {
        "in": len(load.rows),
        "predicted": len(predicted),
        "refused": len(refused - predicted),
        "dead": len(found.dead.first),
        "late": len(found.late.first),
        "repeated": len(repeats - predicted - refused - found.dead.first.keys()),
    }


def _compared_topics(found: Found) -> tuple[str, ...]:
    """Those that must be the fault-free run's: summaries lack the events that the model refused."""
    return tuple(what for what in TOPICS if what != "summaries" or not found.refused.first)


def repeated(found: Found) -> list[str]:
    """Every topic on which something is there twice: with exactly-once delivery a breach."""
    repeats = {what: getattr(found, what).repeats for what in (*TOPICS, "refused")}
    return [f"{what}: {count} are there twice" for what, count in repeats.items() if count]


def breaches(
    load: Load,
    found: Found,
    calm: Found,
    *,
    repeats: Mapping[str, int] | None,
    batch_rows: int | None,
    refusing: bool = False,
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
        refusing: The model may have refused events: those are dead letters of SERVE.
    """
    wrong: list[str] = []
    if found.refused.first and not refusing:
        wrong.append(f"{len(found.refused.first)} events were refused by the model, expected none")
    for what in _compared_topics(found):
        ours, theirs = getattr(found, what), getattr(calm, what)
        wrong += _compared(what, ours, theirs, found.refused if what == "predictions" else Seen())
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


def _compared(what: str, ours: Seen, theirs: Seen, refused: Seen) -> list[str]:
    wrong = [f"{what}: {len(ours.differing)} repeats differ, first {ours.differing[:1]}"]
    lost = sorted(theirs.first.keys() - ours.first.keys() - refused.first.keys())
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
    refused = found.refused.first.keys()
    if ids.keys() | refused != valid.keys() or (
        events and any(events[place] != event for place, event in ids.items() if place in events)
    ):
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
    """The groups of every released window count exactly the events in it that were scored.

    An event may be both refused and scored, where it was served again after the model was mended:
    which of the two its window has seen is not known.
    """
    scored: list[int] = []
    unsure: list[int] = []
    for place, row in load.places("valid").items():
        if place not in found.refused.first:
            scored.append(row.at_ms)
        elif place in found.predictions.first:
            unsure.append(row.at_ms)
    counted: Counter[tuple[int, int]] = Counter()
    for (start, _), record in found.summaries.first.items():
        counted[start, record["window_end_ms"]] += record["rows"]
    wrong = []
    for (start, end), count in counted.items():
        rows = sum(start <= at < end for at in scored)
        more = sum(start <= at < end for at in unsure)
        if not rows <= count <= rows + more:
            wrong.append(f"summaries: window {start} has {count} of {rows}")
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
