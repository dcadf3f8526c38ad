"""Records to model inputs by the enrichers that run in the stream, partition by partition."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from labelled import Sent
from numpy.typing import NDArray

from headrace.enrichers.enricher import Enricher
from headrace.schemas.batch import RecordBatch
from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.streams.client.partition import Partitioner

BATCH_ROWS = 8192


@dataclass(slots=True)
class Featured:
    """What ENRICH makes of a log.

    Attributes:
        sent: The N records that got features, in the partitions' order.
        inputs: float32 (N, F), as the model gets them.
        dead: Records that were refused.
        late: Records that came too late.
        repeated: Records that were dropped as repeats.
    """

    sent: list[Sent]
    inputs: NDArray[np.float32]
    dead: int = 0
    late: int = 0
    repeated: int = 0

    @property
    def labels(self) -> NDArray[np.int8]:
        """int8 (N,), as of `Sent`."""
        return np.array([one.label for one in self.sent], np.int8)

    @property
    def kinds(self) -> NDArray[np.str_]:
        """What each record belongs to, (N,)."""
        return np.array([one.kind for one in self.sent])


def featured(file: Path, log: list[Sent]) -> Featured:
    """The model's inputs for every record of `log` that the pipeline of `file` lets through."""
    pipeline = load_pipeline(file)
    enricher, partitions = Enricher(pipeline), Partitioner(pipeline.topics.partitions)
    columns = input_columns(pipeline)
    split: list[list[Sent]] = [[] for _ in range(pipeline.topics.partitions)]
    for sent in log:
        split[partitions.of(sent.key.encode())].append(sent)
    found, parts = Featured([], np.empty((0, len(columns)), np.float32)), []
    for partition, part in enumerate(split):
        state = enricher.new_state()
        for start in range(0, len(part), BATCH_ROWS):
            batch = part[start : start + BATCH_ROWS]
            enriched = enricher.apply(state, records_of(batch, partition, start))
            enriched.delta.fold()
            rows = enriched.events.offsets - start
            found.sent += [batch[row] for row in rows.tolist()]
            found.dead += len(enriched.dead)
            found.late += len(enriched.late)
            found.repeated += enriched.repeated
            parts.append(enriched.featured.values[:, columns])
    inputs = np.concatenate(parts).astype(np.float32)
    found.inputs = np.where(np.isnan(inputs), np.float32(pipeline.model.missing), inputs)
    return found


def input_columns(pipeline: Pipeline) -> list[int]:
    """Which of a pipeline's feature columns the model reads, in its order."""
    names = [column.name for column in pipeline.columns()]
    return [names.index(name) for name in pipeline.model_inputs]


def records_of(batch: list[Sent], partition: int, first: int) -> RecordBatch:
    """Consecutive records of one partition, as read from a bus."""
    return RecordBatch(
        "simulated",
        partition,
        np.arange(first, first + len(batch)),
        np.array([sent.at_ms for sent in batch]),
        [sent.key.encode() for sent in batch],
        [sent.value() for sent in batch],
    )
