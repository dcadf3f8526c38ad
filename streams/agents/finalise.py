"""The finaliser, SUMMARIZE's other half: parts of all partitions to summaries, released once."""

from __future__ import annotations

import logging
import struct
from collections import Counter
from collections.abc import Iterator

from headrace.enrichers.late import BEGINNING
from headrace.schemas.batch import RecordBatch
from headrace.schemas.errors import PoisonError
from headrace.schemas.partial import Part, Passed, decode_partial
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.protocols import Effects, Output, PartitionState
from headrace.schemas.topics import PipelineTopics
from headrace.streams.agents.final_state import (
    FinalDelta,
    FinalState,
    Mark,
    Released,
    Share,
    Window,
    WindowKey,
)
from headrace.streams.agents.moments import Running
from headrace.streams.agents.refusals import Refusals
from headrace.streams.agents.summarize import layout_of
from headrace.streams.upstream.quantiles import Bins
from headrace.streams.upstream.release import Release, devices_of, encode_summary
from headrace.streams.workers.jobs import FINALISER, StateFacts

log = logging.getLogger("headrace.summarize")

_UNHEARD = Mark(BEGINNING, False)
NEVER = 2**62
"""Where a partition is that nobody waits for."""


class FinaliseAgent:
    """`Batch -> Effects` of the finaliser, pure.

    A window and group is released when every source partition is past it, or rests with nothing
    open: once, as revision 0, of everything that was said until then. What comes later, from a
    partition that nobody waited for or of rows that came after their window was closed, is
    released as the next revision, of everything; for as long as `summary.amend_s` says, by the
    event time of the partition that is furthest. It waits until it is of `summary.min_group`
    devices: the difference to the revision before tells of them alone.

    What a partition writes again after a crash is equal to what it wrote, and changes nothing.
    A window of which a partition has said something that was not read is not released: it was said
    under another `[summary]`, or it is gone with the log. One that was released stays as it is.
    Counted in rows, ``in = out + repeated + unsummarized``; the last came too late, are of windows
    that are not released, or of other windows, groups or metrics than the pipeline file has now.
    What was taken in and waited in vain is counted as unsummarized in the end, too.

    Args:
        pipeline: Pipeline file.
        topics: Its topics.
    """

    stage = FINALISER

    def __init__(self, pipeline: Pipeline, topics: PipelineTopics) -> None:
        self._topics = topics
        self._refusals = Refusals(pipeline, topics, self.stage)
        self._release = Release(pipeline)
        self._summary = pipeline.summary
        self._amend_ms = round(pipeline.summary.amend_s * 1000)
        self.layout = layout_of(pipeline)

    def new_state(self, topic: str, partition: int) -> FinalState:
        """The state before the first record."""
        return FinalState()

    async def process(
        self, state: PartitionState, records: RecordBatch, *, rebuilt: bool
    ) -> Effects:
        """What `records` do; `state` is only read.

        Raises:
            PoisonError: a record is none that SERVE writes (`partial.invalid`).
        """
        delta, counts, foreign = FinalDelta(_ours(state)), Counter[str](), 0
        released: list[tuple[WindowKey, bytes]] = []
        for row in range(len(records)):
            said = self._read(records, row)
            if said.layout != self.layout:
                foreign += said.rows if isinstance(said, Part) else 0
            elif isinstance(said, Part):
                became = self._keep(delta, said, records.values[row] or b"")
                counts.update({"in": said.rows, became: said.rows})
            else:
                released += self._advance(delta, said, counts)
        self._forget(delta, counts)
        if counts["unsummarized"]:
            log.warning(
                "%d predictions are in no summary: too late, or of windows that cannot be whole",
                counts["unsummarized"],
            )
        if foreign:  # most of them were released before [summary] was changed
            counts.update({"in": foreign, "unsummarized": foreign})
        outputs = []
        if released:
            keys = [f"{start}/{group}".encode() for (start, group), _ in released]
            values = [value for _, value in released]
            outputs = [Output(self._topics.summaries.name, 0, keys, values)]
        return Effects(outputs, [], delta, dict(counts))

    def dead(self, records: RecordBatch, row: int, code: str, state: PartitionState) -> Effects:
        """Effects that dead-letter one record under `code` and change nothing else."""
        output = self._refusals.dead(records, {row: code})
        return Effects([output], [], FinalDelta(_ours(state)), {"in": 1, "dead": 1})

    def facts(self, state: PartitionState) -> StateFacts:
        """What the state holds, and which partitions summaries wait for.

        A partition that was not heard of is behind by all that is kept.
        """
        ours = _ours(state)
        front = max((mark.over_ms for mark in ours.marks.values()), default=BEGINNING)
        begin = min(ours.windows, default=front) - self._summary.window_ms
        marks = {p: ours.marks.get(p, _UNHEARD) for p in range(self._topics.telemetry.partitions)}
        behind_s = {
            str(p): (front - max(mark.over_ms, min(begin, front))) / 1000
            for p, mark in marks.items()
            if not mark.quiet
        }
        return StateFacts(bytes=ours.memory_bytes, behind_s=behind_s)

    def _read(self, records: RecordBatch, row: int) -> Part | Passed:
        """A record whose content can be released as it is."""
        try:
            said = decode_partial(records.values[row] or b"")
            if isinstance(said, Part) and said.layout == self.layout and not said.piece:
                width = 1 + len(self._summary.metrics)
                binned = len(Bins.decode(said.bins).levels) if said.bins else 0
                if (len(Running.decode(said.running).count), binned) != (
                    width,
                    width * self._summary.quantiles,
                ):
                    raise ValueError("it is of other quantities")
        except (ValueError, IndexError, struct.error) as error:
            raise PoisonError(
                "partial.invalid", source=records.source(row), found="is no part of a summary"
            ) from error
        return said

    def _keep(self, delta: FinalDelta, part: Part, value: bytes) -> str:
        """Keep a part until its partition says that it is whole; what became of its rows."""
        key, share = (part.window_start_ms, part.group), (part.partition, part.closes_ms)
        if _whole(share, delta.marks):
            return "repeated"
        if key[0] <= max(delta.lacking, min(self._gone(delta), delta.reached)):
            return "unsummarized"
        if key[0] <= delta.reached:
            delta.behind.add(key)
        parts = delta.change(key).parts
        before = parts.get((*share, part.piece))
        parts[*share, part.piece] = value
        return "out" if before is None else "repeated"

    def _advance(
        self, delta: FinalDelta, said: Passed, counts: Counter[str]
    ) -> Iterator[tuple[WindowKey, bytes]]:
        """Take note of how far a partition is; what that releases."""
        known = delta.marks.get(said.partition, _UNHEARD)
        if said.over_ms < known.over_ms:
            return  # written again after a crash
        if said.after_ms > max(known.over_ms, delta.lacking):
            delta.lacking = said.after_ms
            log.warning(
                "windows that start up to %d ms are not released: what partition %d had of them "
                "was written under another [summary], or is gone",
                said.after_ms, said.partition,
            )  # fmt: skip
        delta.marks[said.partition] = Mark(said.over_ms, said.quiet)
        over = self._over(delta)
        new = delta.between(delta.reached, over, self._summary.window_ms)
        for key in sorted({*new, *(key for key in delta.behind if key[0] <= over)}):
            value = self._revised(delta, key, counts)
            if value is not None:
                yield key, value
            window = delta.window(key)
            if window is not None and window.waits:
                delta.behind.add(key)
            else:
                delta.behind.discard(key)
        delta.reached = max(delta.reached, min(over, self._front(delta)))

    def _over(self, delta: FinalDelta) -> int:
        """Start of the last window that every partition is past, or does not hold up."""
        marks = (delta.marks.get(p, _UNHEARD) for p in range(self._topics.telemetry.partitions))
        return min(NEVER if mark.quiet else mark.over_ms for mark in marks)

    def _front(self, delta: FinalDelta) -> int:
        """Start of the last window that any partition is past."""
        return max((mark.over_ms for mark in delta.marks.values()), default=BEGINNING)

    def _gone(self, delta: FinalDelta) -> int:
        """Windows that start up to here are forgotten once they were released."""
        return max(self._front(delta) - self._amend_ms, delta.lacking)

    def _revised(self, delta: FinalDelta, key: WindowKey, counts: Counter[str]) -> bytes | None:
        """The next revision of a window and group, where there is reason for one."""
        window = delta.window(key)
        if window is None:
            return None
        whole = {share for share in window.shares if _whole(share, delta.marks)}
        last = window.released
        new = whole - (last.shares if last else frozenset())
        late = key[0] <= (self._gone(delta) if last else delta.lacking)
        if not new or late or not self._enough(window, new):
            return None
        record = self._release.record(_parts(window, whole), last.rev + 1 if last else 0)
        changed = delta.change(key)
        changed.released = Released(record.rev, record.suppressed, frozenset(whole))
        try:
            return encode_summary(record)
        except ValueError as error:
            log.error("summary of window %d is not sent: %s", key[0], error)
            counts["unsummarized"] += record.rows
            return None

    def _enough(self, window: Window, shares: set[Share]) -> bool:
        """Whether what is added to an answer, if there is one that tells, is of enough devices."""
        if window.released is None or window.released.suppressed:
            return True
        return len(devices_of(_parts(window, shares))) >= self._summary.min_group

    def _forget(self, delta: FinalDelta, counts: Counter[str]) -> None:
        """Let go of windows that can be neither released nor amended any more."""
        gone = self._gone(delta)
        for key, window in delta.upto(max(gone, delta.lacking)):
            if key[0] > (gone if window.released else delta.lacking):
                continue
            told = window.released.shares if window.released else frozenset[Share]()
            left = _parts(window, window.shares - told)
            counts["unsummarized"] += sum(part.rows for part in left)
            delta.forget(key)
            delta.behind.discard(key)


def _whole(share: Share, marks: dict[int, Mark]) -> bool:
    """Whether its partition is past what closes it: all of its pieces were read."""
    mark = marks.get(share[0])
    return mark is not None and share[1] <= mark.over_ms


def _parts(window: Window, shares: set[Share]) -> list[Part]:
    """Parts of these shares, in the order of their names: of no moment, but always the same."""
    kept = sorted(place for place in window.parts if place[:2] in shares)
    found = (decode_partial(window.parts[place]) for place in kept)
    return [part for part in found if isinstance(part, Part)]


def _ours(state: PartitionState) -> FinalState:
    if not isinstance(state, FinalState):
        raise TypeError(f"the finaliser got a {type(state).__name__}, expected a FinalState")
    return state
