"""A lane's outputs and its source offset as one Kafka transaction per batch."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    IllegalOperation,
    IncompatibleBrokerVersion,
    KafkaError,
    UnknownError,
    UnsupportedVersionError,
)
from aiokafka.structs import OffsetAndMetadata  # type: ignore[import-untyped]

from headrace.schemas.errors import (
    BusUnavailableError,
    FatalError,
    HeadraceError,
    OwnershipLostError,
    StateError,
)
from headrace.schemas.protocols import Output
from headrace.streams.bus.connection import mapped_errors
from headrace.streams.bus.errors import explain
from headrace.streams.transport.publish import SENDING, record_batches

TRANSACTION_S = 10.0
"""After this the bus aborts a transaction that nobody ends: how long a dead worker can hold up
readers of committed records, where no new owner comes sooner."""

FILL_S, COMMIT_S, ABORT_S = 8.0, 10.0, 2.0
"""Filling and aborting together stay below TRANSACTION_S."""

RETRY_MS = 10
"""Pause before a request is sent again. In every few transactions the bus is not yet done with the
one before, and aiokafka's own 100 ms would be most of a batch's time."""

FENCE_S = 30.0
CLOSE_S = 1.0

# How buses without transactions answer a request for a producer id.
_NO_TRANSACTIONS = (UnknownError, UnsupportedVersionError, IncompatibleBrokerVersion)

# An assertion is how aiokafka tells that its transaction is in no state for what was asked.
_FAILED = (KafkaError, IllegalOperation, OSError, TimeoutError, AssertionError)


def transactional_id(group: str, topic: str, partition: int) -> str:
    """The transactional id of one source partition in one stage's group.

    Example:
        >>> transactional_id("press.enrich", "headrace.press.telemetry.v1", 2)
        'press.enrich.headrace.press.telemetry.v1-2'
    """
    return f"{group}.{topic}-{partition}"


class TransactionalOutlet:
    """Publishes a batch and moves the group's offset over it, both or neither.

    Fencing is by the transactional id: whoever calls `fence` last is the only one whose
    transactions the bus accepts. aiokafka hands over the group's name only, not its generation;
    so `fence` is called at a takeover and never to mend a producer.

    Args:
        options: Keyword arguments of every bus client (`kafka.client_options`).
        group: The stage's consumer group.
        topic: Source topic.
        partition: Source partition.

    Delivery: exactly once, for readers of committed records.
    """

    transactional = True

    def __init__(self, options: Mapping[str, Any], group: str, topic: str, partition: int) -> None:
        self._options = dict(options)
        self._group = group
        self._source = TopicPartition(topic, partition)
        self._id = transactional_id(group, topic, partition)
        self._producer: AIOKafkaProducer | None = None

    async def fence(self) -> None:
        """Ask the bus for the next epoch of our id; it first ends what an earlier one left open.

        Raises:
            BusUnavailableError: retryable; BusRefusedError: fatal.
        """
        await self.close()
        producer = AIOKafkaProducer(
            **{**self._options, "retry_backoff_ms": RETRY_MS},
            **SENDING,
            transactional_id=self._id,
            transaction_timeout_ms=int(TRANSACTION_S * 1000),
        )
        try:
            with mapped_errors(f"opening transactions {self._id!r}"):
                async with asyncio.timeout(FENCE_S):
                    await producer.start()
        except BaseException:
            await _discard(producer)
            raise
        self._producer = producer

    async def publish(self, outputs: Sequence[Output], upto: int) -> None:
        """One transaction: `outputs`, and the group's offset of the source partition.

        Delivery: exactly once, for readers of committed records.

        Args:
            outputs: Records to publish; may be none.
            upto: The source offset after the batch.

        Raises:
            OwnershipLostError: another worker has opened transactions of this id, or the outcome
                is not known: take the partition over again. Retryable.
            BusUnavailableError: it was aborted, and may be done again. Retryable.
            BusRefusedError, TopicError: aborted as far as possible. Fatal.
        """
        producer = self._producer
        if producer is None:
            raise OwnershipLostError(f"transactions {self._id!r} are not open; take over again")
        tried = f"transaction of {self._source.topic}[{self._source.partition}] up to {upto}"
        try:
            async with asyncio.timeout(FILL_S):
                await self._fill(producer, outputs, upto)
        except _FAILED as error:
            raise await self._undone(producer, error, tried) from error
        try:
            async with asyncio.timeout(COMMIT_S):
                await self._commit(producer)
        except _FAILED as error:
            await self.close()
            raise OwnershipLostError(
                f"{tried} was asked to commit, its outcome is not known "
                f"({type(error).__name__}); assignment runs again and reads it"
            ) from error

    async def _fill(self, producer: AIOKafkaProducer, outputs: Sequence[Output], upto: int) -> None:
        """Begin, and send everything; the offset travels while the records do."""
        await producer.begin_transaction()
        sending = [
            producer.send_batch(batch, output.topic, partition=output.partition)
            for output in outputs
            for batch in record_batches(producer, output)
        ]
        offset = {self._source: OffsetAndMetadata(upto, "")}
        await asyncio.gather(
            producer.send_offsets_to_transaction(offset, self._group), _acknowledged(sending)
        )

    async def _commit(self, producer: AIOKafkaProducer) -> None:
        await producer.commit_transaction()

    async def _undone(
        self, producer: AIOKafkaProducer, error: BaseException, tried: str
    ) -> HeadraceError:
        """Abort, and the error to raise: a clean abort allows the same call again."""
        reason = _reason(producer) or error
        lost = isinstance(reason, AssertionError)
        ours = OwnershipLostError(f"{tried} was not open") if lost else explain(reason, tried)
        if isinstance(ours, BusUnavailableError) and await _aborted(producer):
            return ours
        await self.close()
        if isinstance(ours, FatalError) and not isinstance(ours, StateError):
            return ours
        return OwnershipLostError(
            f"{tried} was given up ({type(reason).__name__}); assignment runs again"
        )

    async def close(self) -> None:
        """Let go of the connection; an open transaction is left to the next `fence`."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _discard(producer)


async def try_transactions(options: Mapping[str, Any], name: str) -> str | None:
    """Open transactions of this id and let go of them; why the bus has none, None where it has.

    Raises:
        BusRefusedError: no right to. Fatal.
        BusUnavailableError: no answer. Retryable.
    """
    outlet = TransactionalOutlet(options, name, "check", 0)
    try:
        await outlet.fence()
    except HeadraceError as error:
        if isinstance(error.__cause__, _NO_TRANSACTIONS):
            return type(error.__cause__).__name__
        raise
    finally:
        await outlet.close()
    return None


async def _acknowledged(sending: Sequence[Any]) -> None:
    """Hand batches over in order, and wait for all acknowledgements together."""
    await asyncio.gather(*[await sent for sent in sending])


def _reason(producer: AIOKafkaProducer) -> BaseException | None:
    """What ended the transaction, where aiokafka knows better than the call that noticed it."""
    ended = producer._txn_manager._transaction_waiter
    if ended is None or not ended.done() or ended.cancelled():
        return None
    found: BaseException | None = ended.exception()
    return found if found is None or found.__cause__ is None else found.__cause__


async def _aborted(producer: AIOKafkaProducer) -> bool:
    """Whether the transaction is known to be aborted."""
    try:
        async with asyncio.timeout(ABORT_S):
            await producer.abort_transaction()
    except _FAILED:
        return False
    return True


async def _discard(producer: AIOKafkaProducer) -> None:
    """Close a producer in whatever state; one that cannot send any more would wait for ever."""
    _reason(producer)  # looked at, or the event loop reports it as never seen
    with suppress(*_FAILED):
        await asyncio.wait_for(producer.stop(), CLOSE_S)
        return
    sender = producer._sender.sender_task
    if sender is not None:
        sender.cancel()
    with suppress(*_FAILED):
        await asyncio.wait_for(producer.client.close(), CLOSE_S)
