"""A lane's outlet in exactly-once: its share of the worker's transactions."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka import TopicPartition  # type: ignore[import-untyped]

from headrace.schemas.errors import OwnershipLostError
from headrace.schemas.protocols import Output
from headrace.streams.transport.group_offsets import Member
from headrace.streams.transport.transactions import Share, Transactions


class TransactionalOutlet:
    """Publishes a batch and moves the group's offset over it, both or neither.

    Args:
        transactions: The worker's.
        topic: Source topic.
        partition: Source partition.

    Delivery: exactly once, for readers of committed records.
    """

    transactional = True

    def __init__(self, transactions: Transactions, topic: str, partition: int) -> None:
        self._transactions = transactions
        self._source = TopicPartition(topic, partition)
        self._member: Member | None = None

    async def fence(self) -> None:
        """Publish under our present place in the group; end what a former owner left open.

        Raises:
            OwnershipLostError: we have no place in the group. Retryable.
            BusUnavailableError: retryable; BusRefusedError: fatal.
        """
        self._member = await self._transactions.open(self._source)

    async def publish(self, outputs: Sequence[Output], upto: int) -> None:
        """Commit `outputs` and the group's offset of the source partition in one transaction.

        Delivery: exactly once, for readers of committed records.

        Args:
            outputs: Records to publish; may be none.
            upto: The source offset after the batch.

        Raises:
            OwnershipLostError: the group has gone on without us, or the outcome is not known:
                take the partition over again. Retryable.
            BusUnavailableError: it was aborted, and may be done again. Retryable.
            BusRefusedError, TopicError: aborted as far as possible. Fatal.
        """
        if self._member is None:
            raise OwnershipLostError(
                f"{self._source.topic}[{self._source.partition}] was not taken over; do so first"
            )
        await self._transactions.publish(Share(self._source, outputs, upto, self._member))

    async def close(self) -> None:
        """Publish nothing more until it is fenced again; the transactions are the worker's."""
        self._member = None
        await self._transactions.rest(self._source)
