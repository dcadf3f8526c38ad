"""Features of a past stretch, computed anew: the enrich stage, of which nobody hears."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from headrace.schemas.batch import RecordBatch
from headrace.schemas.block import FeatureBlock
from headrace.schemas.protocols import PartitionState
from headrace.streams.agents.enrich import EnrichAgent
from headrace.streams.delivery.isolate import effects_of


@dataclass(frozen=True, slots=True)
class Computed:
    """One batch of the log, done.

    Attributes:
        upto: Offset after it.
        records: The batch.
        blocks: Features of its events in the stretch, offsets ascending; none of them empty.
    """

    upto: int
    records: RecordBatch
    blocks: list[FeatureBlock]


async def features_anew(
    agent: EnrichAgent,
    state: PartitionState,
    batches: AsyncIterator[RecordBatch],
    *,
    start: int,
) -> AsyncIterator[Computed]:
    """Fold `batches` into `state`, and give the features of what lies at or above `start`.

    Args:
        agent: The stage's logic.
        state: State at the first record; it is changed.
        batches: Records of one partition in log order.
        start: First offset of which features are wanted.

    Yields:
        One for each batch; below `start` without blocks.

    Delivery: reads only. Nothing is published, stored or counted.
    """
    async for records in batches:
        blocks: list[FeatureBlock] = []
        parts = effects_of(agent, state, records, rebuilt=False, on_retry=lambda code: None)
        async for _, effects in parts:
            effects.delta.fold()
            for output in effects.outputs:
                if output.topic == agent.features_topic:
                    blocks += map(FeatureBlock.decode, output.values)
        wanted = [cut for block in blocks if len(cut := _since(block, start))]
        yield Computed(records.next, records, wanted)


def _since(block: FeatureBlock, start: int) -> FeatureBlock:
    place = int(block.offsets.searchsorted(start))
    return block.slice(place, len(block)) if place else block
