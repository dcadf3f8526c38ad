"""Quix Streams as its documentation teaches: `apply`, `to_topic`, a batching sink for the store.

At-least-once, its default: a checkpoint flushes the producer and the sink, then commits. The state
is kept in the process, as in the hand-written loop: its own state store does more per event.
"""

from __future__ import annotations

import logging
import sys

from plain import Job
from quixstreams import Application, message_context
from quixstreams.models import SerializationContext, Serializer
from quixstreams.sinks import BatchingSink, SinkBatch
from redis import Redis

BUS, STORE, TELEMETRY, OUTPUT, MODEL = sys.argv[1:6]
job = Job(MODEL)


class FeatureSink(BatchingSink):
    """The newest row of every device, in one write per checkpoint and partition."""

    def setup(self) -> None:
        """Connect."""
        self._database = Redis.from_url(STORE)

    def write(self, batch: SinkBatch) -> None:
        """One write for the batch."""
        newest: dict[str, bytes] = {}
        for item in batch:
            newest.update(item.value[1])
        self._database.mset(newest)


class Prediction(Serializer):
    """Only the prediction goes to the topic, so one chain of steps does all."""

    def __call__(self, value: tuple[bytes, dict[str, bytes]], ctx: SerializationContext) -> bytes:
        """Its bytes."""
        return value[0]


def predict(value: bytes, key: bytes, timestamp: int, headers: object):
    """One event in; its prediction and its row, or nothing for a repeat."""
    at = message_context()
    out, newest, _ = job.predict([value], [f"{at.topic}[{at.partition}]@{at.offset}"], [timestamp])
    return (out[0], newest) if out else None


def main() -> None:
    """Run until terminated."""
    app = Application(
        broker_address=BUS,
        consumer_group=f"{OUTPUT}.quix",
        auto_offset_reset="earliest",
        producer_extra_config={"acks": "all", "enable.idempotence": True},
        loglevel="WARNING",
    )
    telemetry = app.topic(TELEMETRY, value_deserializer="bytes", key_deserializer="bytes")
    predictions = app.topic(OUTPUT, value_serializer=Prediction(), key_serializer="bytes")
    sdf = app.dataframe(telemetry)
    sdf = sdf.apply(predict, metadata=True).filter(lambda found: found is not None)
    sdf.to_topic(predictions).sink(FeatureSink())
    app.run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main()
