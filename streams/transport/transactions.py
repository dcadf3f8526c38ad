"""What a worker's lanes have ready, and their source offsets, as one Kafka transaction."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import uuid4

from aiokafka import AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.structs import OffsetAndMetadata  # type: ignore[import-untyped]

from headrace.schemas.errors import (
    BusUnavailableError,
    HeadraceError,
    OwnershipLostError,
    StateError,
)
from headrace.schemas.protocols import Output
from headrace.streams.bus.connection import mapped_errors
from headrace.streams.bus.errors import explain
from headrace.streams.together import all_of
from headrace.streams.transport.former_owner import FormerOwners
from headrace.streams.transport.group_offsets import GroupOffsets, Member
from headrace.streams.transport.mending import Mending
from headrace.streams.transport.publish import FAILED, record_batches, seen
from headrace.streams.transport.transactional_producer import (
    ABORT_S,
    aborted,
    discard,
    is_open,
    open_producer,
    reason,
)

log = logging.getLogger("headrace.transport")

AHEAD_S, FILL_S, COMMIT_S = 0.5, 7.0, 10.0
"""Longest that a transaction waits for its records, that it is filled, that its commit is awaited.
Waiting, filling and aborting together stay below TRANSACTION_S."""

GATHER_S = 0.01
"""Longest that a round waits for a partition of the last two. The bus hands out one partition of
what came together, and the others right behind it: the first would take a round alone, the others
the next, and so on in turns, so that each batch waits for two."""

ALONE_S = 2.0
"""For filling with one partition's share after a transaction of several was aborted: the others
wait for it meanwhile."""


def transactional_id(group: str) -> str:
    """A transactional id that no other worker of the group has.

    Example:
        >>> transactional_id("press.enrich").startswith("press.enrich.")
        True
    """
    return f"{group}.{uuid4().hex}"


class Membership(Protocol):
    """This worker's place in its consumer group."""

    @property
    def member(self) -> Member:
        """As of now."""

    async def offset_note(self, partition: tuple[str, int]) -> str:
        """What was noted beside the group's offset when it was last committed; "" is nothing.

        Raises:
            BusUnavailableError: no answer in time. Retryable.
        """


@dataclass(slots=True, eq=False)
class Share:
    """One lane's part of a transaction.

    Attributes:
        source: Its source partition.
        outputs: Records to publish; may be none.
        upto: The source offset after the batch.
        member: Our place in the group when the partition was taken over.
        done: Whether it was committed, or why not.
    """

    source: TopicPartition
    outputs: Sequence[Output]
    upto: int
    member: Member
    done: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def end(self, error: BaseException | None = None) -> None:
        """Tell the lane, unless it does not listen any more."""
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class Transactions:
    """A worker's transactions, one after another; each takes what lanes have ready meanwhile.

    Fencing is by the group's generation: the offsets of a member that the group went on without
    are refused, and with them its transaction. So its own id is opened at any time without harm
    to others, and outputs of a lane count only under the generation its takeover saw.

    Args:
        options: Keyword arguments of every bus client (`kafka.client_options`).
        group: The stage's consumer group.
        name: Our transactional id; the group's offsets carry it as their note.
        membership: Our place in the group.
        topics: What the stage may write to.

    Delivery: exactly once, for readers of committed records.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        group: str,
        name: str,
        membership: Membership,
        topics: Sequence[str] = (),
    ) -> None:
        self._options = dict(options)
        self._group = group
        self._name = name
        self._membership = membership
        self._former = FormerOwners()
        self._mending = Mending(options, group, topics)
        self._reopened = False
        self._producer: AIOKafkaProducer | None = None
        self._offsets: GroupOffsets | None = None
        self._opening = asyncio.Lock()
        self._sources: set[TopicPartition] = set()
        self._waiting: list[Share] = []
        self._lately: deque[set[TopicPartition]] = deque(maxlen=2)
        self._wake = asyncio.Event()
        self._working: asyncio.Task[None] | None = None

    async def open(self, source: TopicPartition) -> Member:
        """Get ready to publish for a partition, and end what its former owner left open.

        Returns:
            Our place in the group; what is published under it is refused once it changes.

        Raises:
            OwnershipLostError: we have no place in the group. Retryable.
            BusUnavailableError: retryable; BusRefusedError: fatal.
        """
        member = self._membership.member
        if member.generation < 1 or not member.id:
            raise OwnershipLostError(
                f"the group goes on without us; {source.topic}[{source.partition}] is not ours"
            )
        producer = await self._opened()
        self._sources.add(source)
        former = await self._membership.offset_note(source)
        if former not in ("", self._name):
            await self._end(producer, former, source)
        return member

    async def _opened(self) -> AIOKafkaProducer:
        """Our producer; one that was let go of is opened anew, which ends what it left open."""
        async with self._opening:
            if self._producer is None:
                if self._reopened:  # what became of the last one is forgotten with this opening
                    await self._mending.mend_own(self._name)
                self._producer = await open_producer(self._options, self._name)
                self._offsets = GroupOffsets(self._producer, self._group)
                self._reopened = True
            return self._producer

    async def _end(self, producer: AIOKafkaProducer, former: str, source: TopicPartition) -> None:
        """End a former owner's transaction if it is still open, or if the bus lost its end."""
        with mapped_errors(f"looking for transactions of {former!r}"):
            if not await self._former.left_open(producer.client, former, source.partition):
                await self._mending.mend(producer.client, former)
                return
        log.info("transactions %r were left open and are ended", former)
        await discard(await open_producer(self._options, former))

    async def rest(self, source: TopicPartition) -> None:
        """A partition leaves us; with the last one goes the transaction that was begun ahead."""
        self._sources.discard(source)
        if not self._sources and self._working is not None:
            self._wake.set()
            await asyncio.wait({self._working}, timeout=ABORT_S)

    async def publish(self, share: Share) -> None:
        """Return when the share is committed, with whatever else was ready."""
        self._waiting.append(share)
        self._wake.set()
        if self._working is None:
            self._working = asyncio.create_task(self._work(), name=f"transactions {self._name}")
        await share.done

    async def _work(self) -> None:
        """A task boundary: whatever goes wrong is told to those who wait."""
        shares: list[Share] = []
        try:
            while await self._more():
                await self._gather()
                shares, self._waiting = self._waiting, []
                if due := self._due(shares):
                    await self._together(due)
        except Exception as error:  # noqa: BLE001  # the lanes raise it
            for share in shares:
                share.end(error)
        finally:
            self._working = None
            for share in [*shares, *self._waiting]:
                share.end(OwnershipLostError(f"transactions {self._name!r} have ended"))
            self._waiting = []

    def _due(self, shares: Sequence[Share]) -> list[Share]:
        """Those still waited for, of our present place in the group; the others are lost."""
        for share in shares:
            if share.member != self._membership.member:
                share.end(OwnershipLostError("the group has gone on since; assignment runs again"))
        return [share for share in shares if not share.done.done()]

    async def _more(self) -> bool:
        """Whether there is something to do; what was begun ahead does not wait for it for long."""
        self._wake.clear()
        if not self._waiting and self._sources:
            with suppress(TimeoutError):
                async with asyncio.timeout(AHEAD_S):
                    await self._wake.wait()
        if not self._waiting:
            self._lately.clear()
            await self._give_back()
        return bool(self._waiting)

    async def _gather(self) -> None:
        """Wait a moment for those that had a share in the last two rounds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER_S):
                while self._awaited():
                    self._wake.clear()
                    await self._wake.wait()
        self._lately.append({share.source for share in self._waiting})

    def _awaited(self) -> bool:
        lately = set[TopicPartition]().union(*self._lately)
        return not lately & self._sources <= {share.source for share in self._waiting}

    async def _give_back(self) -> None:
        """Abort what was begun ahead."""
        producer = self._producer
        if producer is not None and is_open(producer) and not await aborted(producer):
            await self._let_go()

    async def _together(self, shares: Sequence[Share], fill_s: float = FILL_S) -> None:
        """One transaction; where it was aborted, one for each share, as one may be the reason."""
        failed: HeadraceError | None = None
        try:
            await self._transaction(shares, fill_s)
        except HeadraceError as error:
            failed = error
        if isinstance(failed, BusUnavailableError) and len(shares) > 1 and await self._answers():
            for share in shares:
                await self._together([share], ALONE_S)
            return
        for share in shares:
            share.end(failed)

    async def _answers(self) -> bool:
        """Whether the bus is there at all: then one share may be to blame, and not the bus."""
        try:
            await self._opened()
        except HeadraceError:
            return False
        return True

    async def _transaction(self, shares: Sequence[Share], fill_s: float) -> None:
        producer = await self._opened()
        named = ", ".join(f"{s.source.topic}[{s.source.partition}]@{s.upto}" for s in shares)
        tried = f"transaction up to {named}"
        try:
            async with asyncio.timeout(fill_s):
                await self._fill(producer, shares)
        except FAILED as error:
            raise await self._undone(producer, error, tried) from error
        try:
            async with asyncio.timeout(COMMIT_S):
                await self._commit(producer)
                await producer.begin_transaction()
        except FAILED as error:
            await self._let_go()
            raise OwnershipLostError(
                f"{tried} was asked to commit, its outcome is not known "
                f"({type(error).__name__}); assignment runs again and reads it"
            ) from error

    async def _fill(self, producer: AIOKafkaProducer, shares: Sequence[Share]) -> None:
        """Send everything; the offsets travel while the records do.

        The transaction was begun after the last commit: the bus was told of the group meanwhile,
        and is done with its markers. It holds no record yet, so nobody waits for it.
        """
        if self._offsets is not None:
            self._offsets.member = shares[-1].member
        if not is_open(producer):
            await producer.begin_transaction()
        offsets = {share.source: OffsetAndMetadata(share.upto, self._name) for share in shares}
        sending = [_sent(producer, output) for share in shares for output in share.outputs]
        # When one fails, none of the others may send anything any more.
        await all_of(producer.send_offsets_to_transaction(offsets, self._group), *sending)

    async def _commit(self, producer: AIOKafkaProducer) -> None:
        await producer.commit_transaction()

    async def _undone(
        self, producer: AIOKafkaProducer, error: BaseException, tried: str
    ) -> HeadraceError:
        """Abort, and the error to raise; nothing was committed, so the same call may come again.

        The producer is not used again: a request of this transaction that is still on its way
        would count for its next one. Opening it anew shuts such requests out.
        """
        why = reason(producer) or error
        await aborted(producer)
        await self._let_go()
        if isinstance(why, AssertionError):
            return OwnershipLostError(f"{tried} was not open; assignment runs again")
        ours = explain(why, tried)
        return OwnershipLostError(str(ours)) if isinstance(ours, StateError) else ours

    async def _let_go(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await discard(producer)

    async def close(self) -> None:
        """Let go of the connection; an open transaction is left to who opens the id next."""
        if self._working is not None:
            self._working.cancel()
        await self._let_go()


async def _sent(producer: AIOKafkaProducer, output: Output) -> None:
    """Hand an output's batches over in order, and wait for all acknowledgements together.

    When this is given up, aiokafka still needs the acknowledgements' futures: not to be cancelled.
    """
    sending = []
    for batch in record_batches(producer, output):
        acknowledged = await producer.send_batch(batch, output.topic, partition=output.partition)
        sending.append(asyncio.shield(seen(acknowledged)))
    await asyncio.gather(*sending)
