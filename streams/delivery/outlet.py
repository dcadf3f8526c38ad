"""The outlet of at-least-once delivery: outputs are acknowledged, the offset follows later."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.schemas.protocols import Output
from headrace.streams.delivery.ports import Outlet, Publisher, StagePorts


class AcknowledgedOutlet:
    """Publishes through the stage's one publisher; the transport commits the group's offset.

    Args:
        publisher: The stage's publisher, shared by its lanes.
    """

    transactional = False

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def fence(self) -> None:
        """Nothing: the claim on the checkpoint and the group's generation shut others out."""

    async def publish(self, outputs: Sequence[Output], upto: int) -> None:
        """Return when every record is acknowledged by all in-sync replicas.

        Delivery: at least once; a raised error leaves it open which records arrived.
        """
        if outputs:
            await self._publisher.publish(outputs)

    async def close(self) -> None:
        """Nothing: the publisher is the stage's."""


def outlet_of(stage: StagePorts, topic: str, partition: int) -> Outlet:
    """The outlet of one lane, by the stage's delivery mode."""
    if stage.transactions is None:
        return AcknowledgedOutlet(stage.publisher)
    return stage.transactions(topic, partition)
