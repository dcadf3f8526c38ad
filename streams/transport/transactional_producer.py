"""The producer behind transactions: opened, asked what went wrong, aborted, let go of."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    IncompatibleBrokerVersion,
    UnknownError,
    UnsupportedVersionError,
)

from headrace.schemas.errors import HeadraceError
from headrace.streams.bus.connection import mapped_errors
from headrace.streams.transport.publish import FAILED, SENDING, let_go

TRANSACTION_S = 10.0
"""After this the bus aborts a transaction that nobody ends: how long a dead worker can hold up
readers of committed records, where no new owner comes sooner."""

ABORT_S = 2.0

RETRY_MS = 5
"""Pause before a request is sent again. In every few transactions the bus is not yet done with the
one before, and aiokafka's own 100 ms would be most of a batch's time."""

OPEN_S = 10.0

# How buses without transactions answer a request for a producer id.
_NO_TRANSACTIONS = (UnknownError, UnsupportedVersionError, IncompatibleBrokerVersion)


async def open_producer(options: Mapping[str, Any], name: str) -> AIOKafkaProducer:
    """Open a transactional id; the bus first ends what an earlier opener left open.

    Raises:
        BusUnavailableError: retryable; BusRefusedError: fatal.
    """
    producer = AIOKafkaProducer(
        **{**options, "retry_backoff_ms": RETRY_MS},
        **SENDING,
        transactional_id=name,
        transaction_timeout_ms=int(TRANSACTION_S * 1000),
    )
    try:
        with mapped_errors(f"opening transactions {name!r}"):
            async with asyncio.timeout(OPEN_S):
                await producer.start()
    except BaseException:
        await discard(producer)
        raise
    return producer


async def try_transactions(options: Mapping[str, Any], name: str) -> str | None:
    """Open transactions of this id and let go of them; why the bus has none, None where it has.

    Raises:
        BusRefusedError: no right to. Fatal.
        BusUnavailableError: no answer. Retryable.
    """
    try:
        await discard(await open_producer(options, name))
    except HeadraceError as error:
        if isinstance(error.__cause__, _NO_TRANSACTIONS):
            return type(error.__cause__).__name__
        raise
    return None


def is_open(producer: AIOKafkaProducer) -> bool:
    """Whether it is in a transaction that can be filled."""
    return bool(producer._txn_manager.is_in_transaction())


def reason(producer: AIOKafkaProducer) -> BaseException | None:
    """What ended the transaction, where aiokafka knows better than the call that noticed it."""
    ended = producer._txn_manager._transaction_waiter
    if ended is None or not ended.done() or ended.cancelled():
        return None
    found: BaseException | None = ended.exception()
    return found if found is None or found.__cause__ is None else found.__cause__


async def aborted(producer: AIOKafkaProducer) -> bool:
    """Whether the transaction is known to be aborted."""
    try:
        async with asyncio.timeout(ABORT_S):
            await producer.abort_transaction()
    except FAILED:
        return False
    return True


async def discard(producer: AIOKafkaProducer) -> None:
    """Close a producer in whatever state; one that cannot send any more would wait for ever."""
    reason(producer)  # looked at, or the event loop reports it as never seen
    await let_go(producer)
