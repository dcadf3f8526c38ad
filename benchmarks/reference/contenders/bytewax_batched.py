"""Bytewax with whole batches: `flat_map_batch`, its operator for vectorised work.

Its own recovery store keeps the positions, behind the output; its Kafka sink flushes every batch.
The job's state is kept in the process, as the hand-written loop keeps it; a partition is always
read by the same worker. Batches of 5,000 and 10,000, a longer linger and more prefetching gained
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from plain import Job, collect_less, told
from redis import Redis

BUS, STORE, TELEMETRY, OUTPUT, MODEL = told()
BATCH = 30_000
job = Job(MODEL)
database = Redis.from_url(STORE)


def predict(batch: list[KafkaSourceMessage]) -> Iterable[KafkaSinkMessage]:
    """A batch in, of whatever partitions, its predictions out."""
    out, newest, kept = job.predict(
        [record.value for record in batch],
        [f"{record.topic}[{record.partition}]@{record.offset}" for record in batch],
        [record.timestamp[1] for record in batch],
    )
    if newest:
        database.mset(newest)
    return [
        KafkaSinkMessage(key=batch[n].key, value=value) for n, value in zip(kept, out, strict=True)
    ]


flow = Dataflow("reference")
telemetry = op.input("telemetry", flow, KafkaSource([BUS], [TELEMETRY], batch_size=BATCH))
predictions = op.flat_map_batch("predict", telemetry, predict)
op.output(
    "predictions",
    predictions,
    KafkaSink(
        [BUS],
        OUTPUT,
        add_config={
            "acks": "all",
            "enable.idempotence": "true",
            "queue.buffering.max.messages": "1000000",
        },
    ),
)
collect_less()
