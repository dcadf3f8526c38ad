"""Quix Streams with whole batches: a custom `BatchingSink`, where its documentation puts bulk work.

At-least-once, its default: a checkpoint flushes the sink, which predicts, writes the store and
awaits the predictions' acknowledgements, then commits. A sink has no topic of the framework's to
write to, so the predictions leave by a producer of `Application.get_producer`. Checkpoints of 5,000
and 20,000 events were slower, one of 120,000 was not faster.
"""

from __future__ import annotations

from confluent_kafka import KafkaError, Message
from plain import Job, collect_less, told
from quixstreams import Application
from quixstreams.sinks import BatchingSink, SinkBatch
from redis import Redis

BUS, STORE, TELEMETRY, OUTPUT, MODEL = told()
BATCH = 60_000
WAIT_S = 0.2
"""Most that a prediction waits for its checkpoint."""
POLL_S = 0.05


class PredictingSink(BatchingSink):
    """A batch of each partition in, its predictions out.

    Args:
        app: Says how to reach the bus.
    """

    def __init__(self, app: Application) -> None:
        super().__init__()
        self._app = app
        self._refused: KafkaError | None = None

    def setup(self) -> None:
        """Load the model, and connect."""
        self._job = Job(MODEL)
        self._database = Redis.from_url(STORE)
        self._producer = self._app.get_producer()

    def write(self, batch: SinkBatch) -> None:
        """Predict a batch of one partition."""
        items, log = list(batch), f"{batch.topic}[{batch.partition}]@"
        out, newest, kept = self._job.predict(
            [item.value for item in items],
            [f"{log}{item.offset}" for item in items],
            [item.timestamp for item in items],
        )
        if newest:
            self._database.mset(newest)
        for n, value in zip(kept, out, strict=True):
            self._producer.produce(
                OUTPUT, value, items[n].key, partition=batch.partition, on_delivery=self._delivered
            )

    def flush(self) -> None:
        """Predict what was gathered, and await the acknowledgements."""
        super().flush()
        if self._producer.flush() or self._refused is not None:
            raise RuntimeError(f"predictions were not acknowledged: {self._refused}")

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        self._refused = self._refused or error


def main() -> None:
    """Run until terminated."""
    app = Application(
        broker_address=BUS,
        consumer_group=f"{OUTPUT}.quix",
        auto_offset_reset="earliest",
        commit_every=BATCH,
        commit_interval=WAIT_S,
        consumer_poll_timeout=POLL_S,
        producer_extra_config={
            "acks": "all",
            "enable.idempotence": True,
            "queue.buffering.max.messages": 1_000_000,
        },
        broker_availability_timeout=0,
        loglevel="WARNING",
    )
    telemetry = app.topic(TELEMETRY, value_deserializer="bytes", key_deserializer="bytes")
    app.dataframe(telemetry).sink(PredictingSink(app))
    collect_less()
    app.run()


if __name__ == "__main__":
    main()
