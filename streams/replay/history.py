"""The state before a past stretch: from the nearest snapshot, or as far back as the log goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from headrace.feature_store.snapshots import Snapshots
from headrace.schemas.protocols import Agent, PartitionState
from headrace.streams.delivery.ports import checkpoint_key
from headrace.streams.delivery.recovery import Recovery
from headrace.streams.replay.past import PastLog

How = Literal["beginning", "snapshot", "expired", "warm-up"]


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """Where the state before a stretch comes from.

    Attributes:
        how: ``snapshot``; ``beginning`` of what the pipeline ever read; ``expired``: the log's
            first record, with others before it that retention took; ``warm-up``: as far back as
            was asked for.
        position: First offset that was folded into it.
        complete: It is the state that the live stage had; false where some history is missing.
    """

    how: How
    position: int
    complete: bool

    def said(self, start: int) -> str:
        """In words, for a stretch that begins at `start`.

        Example:
            >>> Begun(how="warm-up", position=900, complete=False).said(1000)
            'a warm-up of 100 offsets from 900: features that look further back may differ'
        """
        if self.how == "snapshot":
            part = "" if self.complete else ", itself rebuilt from a truncated history"
            return f"the snapshot at {self.position}{part}"
        if self.how == "beginning":
            return f"everything that was read, from {self.position}"
        what = "a warm-up" if self.how == "warm-up" else "what retention left, a warm-up"
        count = start - self.position
        return (
            f"{what} of {count} offsets from {self.position}: features that look further back "
            f"may differ"
        )


@dataclass(frozen=True, slots=True)
class ReplayedStage:
    """What `Recovery` asks of a stage, of one that is replayed."""

    agent: Agent
    partitions: int
    source: PastLog
    snapshots: Snapshots | None

    def key(self, topic: str, partition: int) -> str:
        """Checkpoint key of one source partition."""
        return checkpoint_key(self.agent.stage, topic, partition)


async def state_before(
    stage: ReplayedStage,
    topic: str,
    partition: int,
    start: int,
    *,
    first_read: int | None,
    warm_up: int | None = None,
) -> tuple[PartitionState, Begun]:
    """The state to begin with so that everything below `start` is in it at `start`.

    Args:
        stage: Whose state.
        topic: Source topic.
        partition: Source partition.
        start: First offset of the stretch.
        first_read: First offset that the stage ever read, where that is known: what lies before it
            was in no state.
        warm_up: Begin with nothing this many offsets before `start`, whatever is kept.

    Returns:
        State, and where it comes from; the caller folds offsets from its position up to `start`.

    Raises:
        TopicError: the topic has another partition count than its snapshots. Fatal.
        BusUnavailableError, StoreUnavailableError: retryable.
    """
    begin, end = await stage.source.log_range(topic, partition)
    state = stage.agent.new_state(topic, partition)
    if warm_up is not None:
        position = max(begin, start - warm_up, first_read or 0)
        exact = position in (0, first_read)
        how: How = "beginning" if exact else "warm-up"
        return state, Begun(how=how, position=position, complete=exact)
    recovery = Recovery(stage, topic, partition, begin=begin, end=end)
    found = await recovery.nearest(begin - 1, start)
    if found is not None:
        state.load(found.fields)
        position, complete = found.meta.position, not found.meta.rebuilt
        return state, Begun(how="snapshot", position=position, complete=complete)
    position = min(start, max(begin, first_read or 0))
    exact = position in (0, first_read)
    how = "beginning" if exact else "expired"
    return state, Begun(how=how, position=position, complete=exact)
