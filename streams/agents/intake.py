"""The intake stage: telemetry as devices key it to the same records keyed by their entity."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from headrace.enrichers.decode import Decoded, Decoder
from headrace.schemas.batch import Headers, RecordBatch
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.protocols import Effects, Fields, OnlineRows, Output, PartitionState
from headrace.schemas.rekeyed import ORIGIN, own_headers
from headrace.schemas.topics import PipelineTopics
from headrace.streams.agents.refusals import Refusals
from headrace.streams.client.partition import Partitioner


class NoState:
    """Intake remembers nothing of a partition but its position."""

    def load(self, fields: Fields) -> None:
        """There is nothing to load."""

    def dump(self) -> Fields:
        """There is nothing to keep."""
        return ()

    def online(self) -> list[OnlineRows]:
        """There are no features yet."""
        return []


@dataclass(frozen=True, slots=True)
class NoDelta:
    """What a batch changes in no state."""

    def changed(self) -> Fields:
        """Nothing."""
        return ()

    def dropped(self) -> Iterable[bytes]:
        """Nothing."""
        return ()

    def fold(self) -> None:
        """Nothing."""


class IntakeAgent:
    """Pure `Batch -> Effects` of the intake stage.

    Each record goes as it is to the partition of its entity (Kafka's default for that key), with
    its own coordinates in a header; one that is no event goes to the dead letter here, judged by
    the time at which it came in. ``in = out + dead`` for every batch.

    Delivery: records of one device that came in on one partition keep their order. After a crash
    the batch in hand is written again, with the same coordinates: ENRICH drops the repeats by the
    event's id, or by these where it has none.

    Args:
        pipeline: Pipeline file.
        topics: Its topics.

    Raises:
        PipelineFileError: `[input]` contradicts itself. Fatal.
    """

    stage = "intake"
    layout = "none"

    def __init__(self, pipeline: Pipeline, topics: PipelineTopics) -> None:
        self._decode = Decoder(pipeline.input)
        self._keyed = topics.enriched.name
        self._partitions = Partitioner(topics.enriched.partitions)
        self._refusals = Refusals(pipeline, topics, self.stage)

    def new_state(self, topic: str, partition: int) -> NoState:
        """The state before the first record of a partition."""
        return NoState()

    async def process(
        self, state: PartitionState, records: RecordBatch, *, rebuilt: bool
    ) -> Effects:
        """What `records` do. Never waits; `rebuilt` has no part in it."""
        decoded = self._decode(records)
        outputs = self._by_partition(records, decoded)
        if decoded.dead:
            outputs.append(self._refusals.dead(records, decoded.dead))
        counts = {"in": len(records), "out": len(decoded.events), "dead": len(decoded.dead)}
        return Effects(outputs, [], NoDelta(), counts)

    def dead(self, records: RecordBatch, row: int, code: str, state: PartitionState) -> Effects:
        """Effects that dead-letter one record under `code` and change nothing else."""
        output = self._refusals.dead(records, {row: code})
        return Effects([output], [], NoDelta(), {"in": 1, "out": 0, "dead": 1})

    def _by_partition(self, records: RecordBatch, decoded: Decoded) -> list[Output]:
        rows: dict[int, list[int]] = {}
        keys = [entity.encode() for entity in decoded.events.entities]
        for place, key in enumerate(keys):
            rows.setdefault(self._partitions.of(key), []).append(place)
        source, headers = decoded.rows.tolist(), _traced(records)
        return [
            Output(
                self._keyed,
                partition,
                [keys[place] for place in places],
                [records.values[source[place]] or b"" for place in places],
                [headers[source[place]] for place in places],
            )
            for partition, places in sorted(rows.items())
        ]


def _traced(records: RecordBatch) -> list[Headers]:
    """Each record's headers, and its coordinates."""
    log = str(records.source(0)).rpartition("@")[0].encode()
    came_in = [(ORIGIN, b"%b@%d" % (log, offset)) for offset in records.offsets.tolist()]
    if records.headers is None:
        return [(place,) for place in came_in]
    return [
        (*own_headers(read), place) for read, place in zip(records.headers, came_in, strict=True)
    ]
