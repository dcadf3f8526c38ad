"""Taking over a partition: fence, read positions, load state, catch up silently.

The order answers failures that were produced on a real broker: positions read before fencing were
stale and doubled events; see the delivery chapter of the design notes in docs/.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from headrace.schemas.batch import LastRecord, RecordBatch
from headrace.schemas.errors import OwnershipLostError, StateError, TopicError
from headrace.schemas.numerics import numerics_fingerprint
from headrace.schemas.protocols import CheckpointMeta, PartitionState, Snapshot, WriteOutcome
from headrace.streams.delivery.isolate import effects_of
from headrace.streams.delivery.ports import Outlet, StagePorts

log = logging.getLogger("headrace.delivery")

FORMAT = 1
"""Version of the checkpoint's own format."""


@dataclass(slots=True)
class Owned:
    """A partition that is ours.

    Attributes:
        claim: Our claim on its checkpoint.
        state: The fold over the log below `position`.
        position: P: the next offset to process and publish; R as far as the store knows.
        stored: R as the store has it.
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
        """Whether nobody claimed or wrote the partition since we let go of it.

        The outlet is fenced first: who claims the partition after our look shuts us out in turn,
        and who claimed it before is seen.
        """
        await self._outlet.fence()
        return await self._stage.store.held(self._stage.key(topic, partition)) == (
            parked.claim,
            parked.stored,
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
        found = await self._stage.store.read(key)
        epoch = found.meta.epoch if found else 0
        if found and (reason := await self._set_aside(topic, partition, found, begin, end)):
            log.warning("checkpoint of %s[%d] is set aside: %s", topic, partition, reason)
            epoch += 1
            found = None
        if committed is not None and committed > end:
            log.warning(
                "offset %d of %s[%d] lies behind the log's end %d: this is another log, read from "
                "its start",
                committed, topic, partition, end,
            )  # fmt: skip
            committed = begin
        if committed is not None and committed < finished <= end:
            committed = finished
        owned = self._loaded(topic, partition, claim, epoch, found, committed, begin)
        await self._catch_up(topic, partition, owned, committed, begin)
        await self._settle(key, owned, found)
        return owned

    async def _fenced_offset(self, topic: str, partition: int) -> int | None:
        """O, read after the claim was raised and proved by committing it unchanged."""
        committed = await self._stage.group.committed(topic, partition)
        if committed is not None:
            await self._stage.group.commit(topic, partition, committed)
        return committed

    async def _set_aside(
        self, topic: str, partition: int, found: Snapshot, begin: int, end: int
    ) -> str | None:
        """Why this checkpoint must not be used; None when it may."""
        meta = found.meta
        if meta.partitions != self._stage.partitions:
            raise TopicError(
                f"topic {topic!r} has {self._stage.partitions} partitions, its checkpoint was made "
                f"with {meta.partitions}; restore that count, or give the pipeline a new name"
            )
        if meta.format != FORMAT:
            return f"its format is {meta.format}, expected {FORMAT}"
        if meta.layout != self._stage.agent.layout:
            return "the pipeline's features have changed since it was written"
        if meta.position > end:
            return f"it ends at offset {meta.position}, the log at {end}: this is another log"
        if meta.last is None or meta.last.offset < begin:
            return None
        if await self._stage.source.last_record(topic, partition, meta.last.offset) != meta.last:
            return f"the record at offset {meta.last.offset} is another one: this is another log"
        return None

    def _loaded(
        self,
        topic: str,
        partition: int,
        claim: int,
        epoch: int,
        found: Snapshot | None,
        committed: int | None,
        begin: int,
    ) -> Owned:
        """State at R; without a checkpoint, the empty state at the log's start."""
        state = self._stage.agent.new_state(topic, partition)
        if found is None:
            if committed is None:
                raise StateError(
                    f"partition {topic}[{partition}] has neither a checkpoint nor a group offset; "
                    f"say where to begin with --from earliest|latest|<time>"
                )
            return Owned(claim, state, begin, -1, epoch, None, rebuilt=begin > 0)
        state.load(found.fields)
        meta = found.meta
        rebuilt = meta.position < begin
        if rebuilt:
            lost = begin - meta.position
            self._stage.counters.expired += lost
            log.warning(
                "%d events of %s[%d] expired before they were read; raise the topic's retention",
                lost, topic, partition,
            )  # fmt: skip
        position = max(meta.position, begin)
        return Owned(claim, state, position, meta.position, epoch, meta.last, rebuilt)

    async def _catch_up(
        self, topic: str, partition: int, owned: Owned, committed: int | None, begin: int
    ) -> None:
        """Fold what lies between R and O without publishing: it was published before."""
        if committed is None or committed <= owned.position:
            return
        async for records in self._stage.source.read_range(
            topic, partition, owned.position, committed
        ):
            await self._fold(owned, records)
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

    async def _settle(self, key: str, owned: Owned, found: Snapshot | None) -> None:
        """Make store and arrays agree: the checkpoint at P, and the online rows it implies."""
        if found is None or owned.position != owned.stored:
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
