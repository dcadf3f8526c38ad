"""Taking over a partition: fence, read positions, load state, catch up silently.

The order answers failures that were produced on a real broker: positions read before fencing were
stale and doubled events; see the delivery chapter of the design notes in docs/.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from headrace.schemas.batch import LastRecord, RecordBatch
from headrace.schemas.errors import BusUnavailableError, OwnershipLostError, StateError
from headrace.schemas.numerics import numerics_fingerprint
from headrace.schemas.protocols import CheckpointMeta, PartitionState, WriteOutcome
from headrace.streams.delivery.isolate import effects_of
from headrace.streams.delivery.ports import Outlet, StagePorts
from headrace.streams.delivery.recovery import FORMAT, Found, Recovery

log = logging.getLogger("headrace.delivery")


@dataclass(slots=True)
class Owned:
    """A partition that is ours.

    Attributes:
        claim: Our claim on its checkpoint.
        state: The fold over the log below `position`.
        position: P: the next offset to process and publish; R as far as the store knows.
        stored: R as the store has it; -1 where it has none, or one that is not of this state.
        epoch: How many logs of this name the state has seen.
        last: The last record below `position`.
        rebuilt: The state comes from a truncated history.
    """

    claim: int
    state: PartitionState
    position: int
    stored: int
    epoch: int
    last: LastRecord | None
    rebuilt: bool

    def meta(self, layout: str, partitions: int) -> CheckpointMeta:
        """What the checkpoint of this moment says of itself."""
        return CheckpointMeta(
            position=self.position,
            layout=layout,
            format=FORMAT,
            partitions=partitions,
            numerics=numerics_fingerprint(),
            epoch=self.epoch,
            last=self.last,
            rebuilt=self.rebuilt,
        )


class Takeover:
    """The assignment protocol of one lane.

    Args:
        stage: The stage.
        outlet: The lane's outlet: whoever had the partition before is shut out of it.
    """

    def __init__(self, stage: StagePorts, outlet: Outlet) -> None:
        self._stage = stage
        self._outlet = outlet

    async def still_ours(self, topic: str, partition: int, parked: Owned) -> bool:
        """Whether nobody claimed or wrote the partition since we let go of it, nor made it anew.

        The outlet is fenced first: who claims the partition after our look shuts us out in turn,
        and who claimed it before is seen, by the store or, where that was rolled back meanwhile, by
        the group's offset, which is beyond ours then. Committed anew, it names us as the owner.
        """
        await self._outlet.fence()
        committed = await self._fenced_offset(topic, partition)
        if committed is not None and committed > parked.position:
            return False
        held = await self._stage.store.held(self._stage.key(topic, partition))
        if held != (parked.claim, parked.stored):
            return False
        last = parked.last
        return last is None or last == await self._stage.source.last_record(
            topic, partition, last.offset
        )

    async def take(self, topic: str, partition: int, *, finished: int = 0) -> Owned:
        """Make the partition ours: everything up to P is in the state and published.

        Args:
            topic: Source topic.
            partition: Source partition.
            finished: Offset after the last batch that this worker published itself; the group's
                offset follows it only after a while.

        Raises:
            OwnershipLostError: the group refused us: another worker has the partition.
            StateError, TopicError: checkpoint, offsets and log contradict each other. Fatal.
        """
        key = self._stage.key(topic, partition)
        claim = await self._stage.store.claim(key)
        await self._outlet.fence()
        committed = await self._fenced_offset(topic, partition)
        begin, end = await self._stage.source.log_range(topic, partition)
        checkpoint = await self._stage.store.read(key)
        if committed is not None and committed > end:
            log.warning(
                "offset %d of %s[%d] lies behind the log's end %d: this is another log, read from "
                "its start",
                committed, topic, partition, end,
            )  # fmt: skip
            committed = begin
        if committed is not None and committed < finished <= end:
            committed = finished
        recovery = Recovery(self._stage, topic, partition, begin=begin, end=end)
        found = await recovery.find(checkpoint, committed)
        if found.another_log and found.state is None:
            committed = begin  # what the group has, if anything, is of the log before
        owned = self._loaded(topic, partition, claim, found, committed, begin)
        self._tell(topic, partition, owned, committed)
        await self._catch_up(topic, partition, owned, committed)
        await self._settle(key, owned)
        return owned

    async def _fenced_offset(self, topic: str, partition: int) -> int | None:
        """O, read after the claim was raised and proved by committing it unchanged."""
        committed = await self._stage.group.committed(topic, partition)
        if committed is not None:
            await self._stage.group.commit(topic, partition, committed)
        return committed

    def _loaded(
        self,
        topic: str,
        partition: int,
        claim: int,
        found: Found,
        committed: int | None,
        begin: int,
    ) -> Owned:
        """State at R; without one, the empty state at the log's start."""
        state = self._stage.agent.new_state(topic, partition)
        if found.state is None:
            if committed is None:
                raise StateError(
                    f"partition {topic}[{partition}] has neither a checkpoint nor a group offset; "
                    f"say where to begin with --from earliest|latest|<time>"
                )
            self._count_expired(topic, partition, begin - committed)
            return Owned(claim, state, begin, -1, found.epoch, None, rebuilt=begin > 0)
        state.load(found.state.fields)
        meta = found.state.meta
        self._count_expired(topic, partition, begin - max(meta.position, committed or 0))
        return Owned(
            claim,
            state,
            max(meta.position, begin),
            meta.position if found.stored else -1,
            found.epoch,
            meta.last,
            rebuilt=meta.rebuilt or meta.position < begin,
        )

    def _count_expired(self, topic: str, partition: int, lost: int) -> None:
        """What lies below the log's start and was neither folded nor published."""
        if lost > 0:
            self._stage.counters.expired += lost
            log.warning(
                "%d events of %s[%d] expired before they were read; raise the topic's retention",
                lost, topic, partition,
            )  # fmt: skip

    def _tell(self, topic: str, partition: int, owned: Owned, committed: int | None) -> None:
        """Say where offset and state differ: a crash's doing, or somebody's who set the offset."""
        ahead = 0 if committed is None else committed - owned.position
        if ahead > 0:
            log.warning(
                "the group's offset %d of %s[%d] lies %d ahead of its state%s: they are folded "
                "into it and not published",
                committed, topic, partition, ahead, ", rebuilt" if owned.rebuilt else "",
            )  # fmt: skip
        elif ahead < 0:
            log.warning(
                "the group's offset %d of %s[%d] lies %d behind its state: they were done and are "
                "not done again",
                committed, topic, partition, -ahead,
            )  # fmt: skip

    async def _catch_up(
        self, topic: str, partition: int, owned: Owned, committed: int | None
    ) -> None:
        """Fold what lies between R and O without publishing: it was published before.

        Raises:
            BusUnavailableError: retention took some of it since the log's start was asked for; what
                the state lacks then is flagged by the next try. Retryable.
        """
        if committed is None or committed <= owned.position:
            return
        source = self._stage.source
        try:
            async for records in source.read_range(topic, partition, owned.position, committed):
                await self._fold(owned, records)
        except StateError as error:
            begin, _ = await source.log_range(topic, partition)
            if begin <= owned.position:
                raise
            raise BusUnavailableError(
                f"folding {topic}[{partition}] from {owned.position} met the log's start, which is "
                f"{begin} by now; the partition is taken over again from there"
            ) from error
        owned.position = committed

    async def _fold(self, owned: Owned, records: RecordBatch) -> None:
        """Fold records into the state, publish nothing."""
        parts = effects_of(
            self._stage.agent,
            owned.state,
            records,
            rebuilt=owned.rebuilt,
            on_retry=self._stage.counters.retry,
        )
        async for part, effects in parts:
            effects.delta.fold()
            owned.position = part.next
            owned.last = part.last_record()
            self._stage.counters.replayed += len(part)

    async def _settle(self, key: str, owned: Owned) -> None:
        """Make store and arrays agree: the checkpoint at P, and the online rows it implies."""
        if owned.position != owned.stored:
            meta = owned.meta(self._stage.agent.layout, self._stage.partitions)
            outcome = await self._stage.store.rewrite(
                key, claim=owned.claim, meta=meta, fields=owned.state.dump()
            )
            if outcome is not WriteOutcome.WRITTEN:
                raise OwnershipLostError(f"checkpoint {key!r} was claimed by another worker")
            owned.stored = owned.position
        for rows in owned.state.online():
            await self._stage.store.write_rows(
                rows, epoch=owned.epoch, ttl_s=self._stage.ttl_s[rows.view]
            )
