"""The history of one pipeline: a record of each minute, and how a restart goes on from them."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterable, Sequence
from itertools import groupby

import msgspec

from headrace.schemas.observed import (
    MOST_FINDINGS,
    MOST_INCIDENTS,
    BudgetSpent,
    Finding,
    Image,
    Incident,
    ObservedRecord,
    Percentiles,
    Reference,
)
from headrace.schemas.pipeline import Pipeline
from headrace.streams.observe.error_budget import Spent, spent_of
from headrace.streams.observe.objectives import ObjectiveBook
from headrace.streams.observe.readings import Readings

EVERY_S = 60.0
IMAGE_EVERY = 30
"""One in so many records of a teller holds an image."""

REFERENCE_BYTES = 2 << 20
WHOLE_WAY = "device_to_prediction"


def teller_of(pipeline: str, stages: Sequence[str]) -> str:
    """Who tells of these stages on this machine: a digest, as names of machines are nobody's."""
    facts = f"{socket.gethostname()} {pipeline} {' '.join(stages)}"
    return hashlib.blake2b(facts.encode(), digest_size=8).hexdigest()


class History:
    """Makes the records of one `up`, and takes up those of an earlier one.

    Args:
        pipeline: The pipeline.
        readings: What its workers told, and drift.
        book: Its objectives.
        teller: Who tells, the same after a restart.
    """

    def __init__(
        self, pipeline: Pipeline, readings: Readings, book: ObjectiveBook, teller: str
    ) -> None:
        self._pipeline, self._readings, self._book = pipeline, readings, book
        self._teller, self._life = teller, os.urandom(8).hex()
        self._number = 0
        self._told_ms: int | None = None
        self._events: dict[str, int] = {}
        self._spent: dict[tuple[str, str], tuple[int, int]] = {}

    def record(self, now_ms: int, seconds: float, *, whole: bool = False) -> ObservedRecord:
        """What was seen since the last record.

        Args:
            now_ms: Wall clock, milliseconds since 1970.
            seconds: How long ago the last one was.
            whole: With an image, however long ago the last one was.

        Returns:
            A new record each time; a repeat of what could not be written is the caller's.
        """
        number, self._number = self._number, self._number + 1
        since_ms, self._told_ms = self._told_ms or 0, now_ms
        book = self._readings.drift
        return ObservedRecord(
            pipeline=self._pipeline.name,
            pipeline_digest=self._pipeline.digest,
            teller=self._teller,
            life=self._life,
            number=number,
            at_ms=now_ms,
            seconds=round(seconds, 3),
            events=self._counted(),
            latencies=tuple(_shown(self._readings.percentiles(last_s=seconds))),
            budgets=tuple(self._budgets()),
            incidents=tuple(_news(self._book.incidents, since_ms)),
            drift=() if book is None else tuple(largest(book.untold())),
            image=self._image() if whole or number % IMAGE_EVERY == 0 else None,
        )

    def restore(self, found: Iterable[ObservedRecord], now_s: float, now_ms: int) -> bool:
        """Go on where an earlier life was, as its records tell; whether there was one.

        Args:
            found: The newest records, oldest first, repeats among them.
            now_s: Seconds that only rise, those of the objectives.
            now_ms: Wall clock, milliseconds since 1970.

        Raises:
            ValueError, IndexError: an image holds bytes that are none. Nothing went on.
        """
        records = [record for record in distinct(found) if record.life != self._life]
        imaged = [record for record in records if record.image is not None]
        own = [record for record in imaged if record.teller == self._teller]
        if not imaged:
            return False
        newest = (own or imaged)[-1]
        mine = [record for record in records if record.teller == newest.teller]
        image = newest.image or Image()
        spent: dict[tuple[str, str], list[Spent]] = {
            (one.which, one.name): spent_of(one, (now_ms - newest.at_ms) / 1000)
            for one in image.budgets
        }
        for record in mine[mine.index(newest) + 1 :]:
            for told in record.budgets:
                ago_s = (now_ms - record.at_ms) / 1000
                spent.setdefault((told.which, told.name), []).append((ago_s, told.good, told.bad))
        findings = [finding for record in mine for finding in record.drift]
        if self._readings.drift is not None:
            self._readings.drift.restore(image, findings)
        self._book.restore(now_s, spent, _latest(mine))
        return True

    def is_enough(self, found: Sequence[ObservedRecord]) -> bool:
        """Whether an image of our own is among these records: older ones would tell no more."""
        return any(record.image is not None and record.teller == self._teller for record in found)

    def _counted(self) -> dict[str, int]:
        """Events since the last record, by stage and outcome."""
        now = {
            f"{labels[1]}.{labels[2]}": int(value)
            for (name, labels), value in self._readings.samples().items()
            if name == "headrace_stream_events_total"
        }
        before, self._events = self._events, now
        return {key: max(0, count - before.get(key, 0)) for key, count in now.items()}

    def _budgets(self) -> Iterable[BudgetSpent]:
        for budget, state in zip(self._book.budgets, self._book.states(), strict=True):
            key = (budget.which, budget.name)
            before, self._spent[key] = self._spent.get(key, (0, 0)), budget.seen
            yield BudgetSpent(
                which=state.which,
                name=state.name,
                good=max(0, budget.seen[0] - before[0]),
                bad=max(0, budget.seen[1] - before[1]),
                left=state.left,
                burn=state.burn,
            )

    def _image(self) -> Image:
        book = self._readings.drift
        return Image(
            budgets=tuple(budget.image() for budget in self._book.budgets),
            references=() if book is None else tuple(_bounded(book.references())),
            judged=-1 if book is None else book.judged,
        )


def distinct(found: Iterable[ObservedRecord]) -> list[ObservedRecord]:
    """Each record once, in the order of the log: a write whose answer was lost comes twice."""
    return list({(record.life, record.number): record for record in found}.values())


def largest(findings: Sequence[Finding]) -> list[Finding]:
    """At most `MOST_FINDINGS`, alarms first, then by index; of these by window as they came."""
    if len(findings) <= MOST_FINDINGS:
        return list(findings)
    ranked = sorted(
        range(len(findings)), key=lambda k: (not findings[k].alarm, -findings[k].value, k)
    )
    return [findings[k] for k in sorted(ranked[:MOST_FINDINGS])]


def _shown(rows: Sequence[Percentiles]) -> Iterable[Percentiles]:
    """Device classes one by one for the whole way only."""
    for _, group in groupby(rows, key=lambda row: row.hop):
        found = list(group)
        chosen = found if found[0].hop == WHOLE_WAY else found[:1]
        yield from (row for row in chosen if row.count)


def _news(incidents: Iterable[Incident], since_ms: int) -> list[Incident]:
    """Those that go on, and those that ended since; copies, as they go on changing."""
    news = [i for i in incidents if i.end_ms is None or i.end_ms >= since_ms]
    return [msgspec.structs.replace(incident) for incident in news[-MOST_INCIDENTS:]]


def _latest(records: Iterable[ObservedRecord]) -> list[Incident]:
    """Each incident as it was told of last, oldest first."""
    found = {
        (incident.which, incident.objective, incident.start_ms): incident
        for record in records
        for incident in record.incidents
    }
    return sorted(found.values(), key=lambda incident: incident.start_ms)


def _bounded(references: Sequence[Reference]) -> Iterable[Reference]:
    """As many as fit; the others are learned anew after a restart."""
    left = REFERENCE_BYTES
    for reference in references:
        whole = () if reference.pooled is None else (reference.pooled,)
        left -= sum(len(told.bins) for told in (*reference.windows, *whole))
        if left < 0:
            return
        yield reference
