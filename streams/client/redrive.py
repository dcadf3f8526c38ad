"""Put dead letters back where they came from, each once, a bounded number of times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal

from headrace.schemas.deadletter import (
    REDRIVE,
    REDRIVEN,
    Tried,
    deadletter_headers,
    redrive_headers,
)
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.settings import BusSettings
from headrace.schemas.topics import topics_of
from headrace.streams.client.bus import Bus
from headrace.streams.client.clock import wall_clock
from headrace.streams.client.connect import bus_of
from headrace.streams.client.deadletters import DeadLetter, Wanted, redriven, selected

Left = Literal["redriven", "attempts", "serve", "cut", "tombstone", "elsewhere"]
"""Why a dead letter is left: redriven before; tried often enough; SERVE's, which would drop it as
served; only its beginning kept; no value at all; from a topic or partition that is not read."""


@dataclass(slots=True)
class Outcome:
    """What became of the dead letters that were wanted.

    Attributes:
        redriven: Put back; in a dry run, what would be.
        aged: Of those, first seen longer ago than the allowed lateness: ENRICH sends an event
            that is older than its watermark by more than that to the late topic.
        left: How many were left, by reason.
        examples: Coordinates of the first one left, by reason.
    """

    redriven: int = 0
    aged: int = 0
    left: dict[Left, int] = field(default_factory=dict)
    examples: dict[Left, str] = field(default_factory=dict)

    def leave(self, letter: DeadLetter, why: Left) -> None:
        """Count one that is left."""
        self.left[why] = self.left.get(why, 0) + 1
        self.examples.setdefault(why, letter.at)


class Redrive:
    """Publishes dead letters of ENRICH again, and leaves a mark beside each.

    Original key, value and headers go to the partition they came from, in the order in which they
    died. A batch of at most 500 is published, acknowledged by all replicas, then marked on the
    dead-letter topic. What is marked is not redriven again; the mark is younger than the dead
    letter, so retention takes it later.

    Args:
        bus: Connection settings, aiokafka client options, or a `Bus`.
        pipeline: Whose dead letters.
        wanted: Which of them.
        limit: Most to put back; None for all.
        now: Wall clock, seconds since 1970.

    Delivery: at-least-once. Killed between publishing and marking, the next run publishes that
    batch again, with the same event ids: ENRICH drops the repeats, where the input has ids. So it
    is when two redrives run at once.
    """

    def __init__(
        self,
        bus: BusSettings | Mapping[str, Any] | Bus,
        pipeline: Pipeline,
        wanted: Wanted,
        *,
        limit: int | None = None,
        now: Callable[[], float] = wall_clock,
    ) -> None:
        self._bus, self._pipeline, self._wanted = bus_of(bus), pipeline, wanted
        self._limit, self._now = limit, now
        topics = topics_of(pipeline)
        self._telemetry = topics.telemetry.name
        self._to = self._bus.writer(self._telemetry)
        self._marks = self._bus.writer(topics.deadletter.name)
        self._partitions = 0
        self._before: dict[str, str | None] = {}

    async def run(self, *, dry: bool = False) -> Outcome:
        """Redrive them; `dry` only says what would become of each.

        Raises:
            BusUnavailableError: retryable, run it again. TopicError, BusRefusedError: fatal.
        """
        outcome = Outcome()
        try:
            self._partitions = await self._to.start()
            await self._marks.start()
            self._before = await redriven(self._bus, self._pipeline, self._wanted)
            async with aclosing(selected(self._bus, self._pipeline, self._wanted)) as batches:
                async for batch in batches:
                    due = self._due(batch, outcome)
                    if due and not dry:
                        await self._move(due)
                    if outcome.redriven == self._limit:
                        break
        finally:
            await self._to.stop()
            await self._marks.stop()
        return outcome

    def _due(self, batch: Sequence[DeadLetter], outcome: Outcome) -> list[DeadLetter]:
        """Those of a batch to put back, counted; the others too, up to the limit."""
        due: list[DeadLetter] = []
        oldest_ms = (self._now() - self._pipeline.input.allowed_lateness_s) * 1000
        for letter in batch:
            if outcome.redriven == self._limit:
                break
            why = self._why_left(letter)
            if why is not None:
                outcome.leave(letter, why)
                continue
            due.append(letter)
            outcome.redriven += 1
            outcome.aged += letter.first_seen_ms < oldest_ms
        return due

    def _why_left(self, letter: DeadLetter) -> Left | None:
        if letter.at in self._before:
            return "redriven"
        if letter.stage not in ("intake", "enrich"):
            return "serve"
        if letter.origin.topic != self._telemetry or letter.origin.partition >= self._partitions:
            return "elsewhere"
        if letter.is_cut:
            return "cut"
        if letter.tombstone:
            return "tombstone"
        return "attempts" if letter.attempt >= self._pipeline.delivery.redrive_attempts else None

    async def _move(self, due: Sequence[DeadLetter]) -> None:
        """Publish, then mark; all of one partition of the dead-letter topic."""
        went: dict[str, int] = {}
        for partition in sorted({letter.origin.partition for letter in due}):
            letters = [letter for letter in due if letter.origin.partition == partition]
            went |= await self._publish(partition, letters)
        rows = len(due)
        marks = [self._mark(letter, went[letter.at]) for letter in due]
        await self._marks.write(due[0].place.partition, [None] * rows, [b""] * rows, marks)

    async def _publish(self, partition: int, letters: Sequence[DeadLetter]) -> dict[str, int]:
        """Write dead letters to their partition; each one's coordinates to its new offset."""
        offsets = await self._to.write(
            partition,
            [letter.key for letter in letters],
            [letter.value for letter in letters],
            [
                redrive_headers(
                    letter.headers,
                    letter.place,
                    Tried(letter.attempt + 1, letter.first_seen_ms),
                )
                for letter in letters
            ],
        )
        return {letter.at: offset for letter, offset in zip(letters, offsets, strict=True)}

    def _mark(self, letter: DeadLetter, offset: int) -> list[tuple[str, bytes]]:
        """Headers of the record that says where a dead letter went."""
        headers = deadletter_headers(
            REDRIVEN,
            letter.place,
            stage=REDRIVE,
            pipeline=self._pipeline.name,
            pipeline_digest=self._pipeline.digest,
            first_seen_ms=letter.first_seen_ms,
            attempt=letter.attempt + 1,
        )
        if offset < 0:  # the bus recognised a repeat and no longer knows where it is
            return headers
        to = f"{self._telemetry}[{letter.origin.partition}]@{offset}"
        return [*headers, ("redriven_to", to.encode())]
