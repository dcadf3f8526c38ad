"""Repairs of aiokafka 0.14, each until upstream has it; applied once, by whoever opens a door.

**Committed offsets of a coordinator that is still loading.** From version 2 on, the answer to
OffsetFetch carries one error for the whole group (KIP-88); aiokafka reads the partitions' errors
only. A broker that has just started answers "load in progress" with no partitions, which then
reads as "this group never committed anything", and a reader that begins at the latest record
skips everything in between. Seen within 150 ms of a broker's start, on Kafka 4.3.1.

**A fetcher that is closed while the bus is away.** It cancels its own waiting tasks and awaits them
without catching their cancellation, which then ends whoever closes it: a stopping worker lost its
bus client with a traceback and waited out every deadline, 18 s in all.

**A transaction that follows another at once.** The bus answers "concurrent transactions" until the
markers of the one before are written, which takes 1 to 5 ms; aiokafka asks again after 20 ms.
Transactions one after another took 27 ms each, now 11 ms (two cores, Kafka 4.3.1).

**A transaction that is aborted after an error.** aiokafka forgets at the error what the transaction
holds, takes it for empty, and says that it is aborted without telling the bus: what was sent would
become visible with the commit of the next one.

**A batch that has failed while it waited to be sent again.** Putting it back raises, in a task that
nobody awaits: a fenced producer ends with a traceback.

**A batch that fails before it was sent.** A second future of it gets the error too, which nobody
looks at; the event loop then reports it with a traceback for each batch of a fenced producer.

**A start that is cancelled.** The first connection is nobody's until its first answer is there: a
stage that is stopped just then left it open.

**A header name that is no UTF-8.** See `header_names`.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

from aiokafka import client, errors  # type: ignore[import-untyped]
from aiokafka.consumer.fetcher import Fetcher  # type: ignore[import-untyped]
from aiokafka.consumer.group_coordinator import (  # type: ignore[import-untyped]
    GroupCoordinator,
)
from aiokafka.producer import sender  # type: ignore[import-untyped]
from aiokafka.producer.message_accumulator import (  # type: ignore[import-untyped]
    MessageAccumulator,
    MessageBatch,
)
from aiokafka.producer.transaction_manager import (  # type: ignore[import-untyped]
    TransactionManager,
)
from aiokafka.protocol.commit import OffsetFetchRequest  # type: ignore[import-untyped]

from headrace.streams.bus.header_names import allow_any_names

_DONE = "_headrace_repaired"
_MARKERS_S = 0.005


def repair_aiokafka() -> None:
    """Apply every repair to this process; a second call does nothing."""
    if getattr(GroupCoordinator, _DONE, False):
        return
    GroupCoordinator._send_req = _checked(GroupCoordinator._send_req)
    Fetcher.close = _closing(Fetcher.close)
    sender.BACKOFF_OVERRIDE = _MARKERS_S
    allow_any_names()
    client.create_conn = _noted(client.create_conn)
    client.AIOKafkaClient.bootstrap = _owning(client.AIOKafkaClient.bootstrap)
    MessageAccumulator.reenqueue = _wanted(MessageAccumulator.reenqueue)
    MessageBatch.failure = _failing(MessageBatch.failure)
    TransactionManager.error_transaction = _remembering(TransactionManager.error_transaction)
    setattr(GroupCoordinator, _DONE, True)


_first: ContextVar[list[Any] | None] = ContextVar("first connections", default=None)


def _noted(create_conn: Any) -> Any:
    async def created(*args: Any, **options: Any) -> Any:
        made = await create_conn(*args, **options)
        if (first := _first.get()) is not None:
            first[:] = [made]
        return made

    return created


def _owning(bootstrap: Any) -> Any:
    async def owned(self: Any) -> None:
        made: list[Any] = []
        token = _first.set(made)
        try:
            await bootstrap(self)
        except asyncio.CancelledError:
            for connection in made:
                connection.close()
            raise
        finally:
            _first.reset(token)

    return owned


def _checked(send: Any) -> Any:
    async def send_req(self: Any, request: Any) -> Any:
        response = await send(self, request)
        if isinstance(request, OffsetFetchRequest):
            _raise_of_group(self, response)
        return response

    return send_req


def _closing(close: Any) -> Any:
    async def closed(self: Any) -> None:
        try:
            await close(self)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise

    return closed


def _failing(failure: Any) -> Any:
    def failed(self: Any, exception: BaseException) -> None:
        failure(self, exception)
        if self._drain_waiter.done():
            self._drain_waiter.exception()

    return failed


def _wanted(reenqueue: Any) -> Any:
    def again(self: Any, batch: Any) -> None:
        if batch in self._pending_batches:
            reenqueue(self, batch)

    return again


def _remembering(error_transaction: Any) -> Any:
    def remembered(self: Any, exception: BaseException) -> None:
        held, group = set(self._txn_partitions), self._txn_consumer_group
        error_transaction(self, exception)
        self._txn_partitions.update(held)
        self._txn_consumer_group = group

    return remembered


def _raise_of_group(coordinator: Any, response: Any) -> None:
    """Raise the group's own error as the caller expects a partition's: these two it retries."""
    kind = errors.for_code(getattr(response, "error_code", 0))
    if kind is errors.NoError:
        return
    if kind in (errors.NotCoordinatorForGroupError, errors.GroupCoordinatorNotAvailableError):
        coordinator.coordinator_dead()
    raise kind(coordinator.group_id)
