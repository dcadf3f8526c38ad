"""The hand-written loop with Confluent's client, whose fetching and sending are C on other threads.

As `handwritten`, with the same guarantees: a poll of all partitions is one session call and one
Redis write, and is committed after its acknowledgements. A refused prediction ends the process;
only errors are reported, which spares a call for each that arrived.
"""

from __future__ import annotations

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer
from plain import Job, collect_less, told
from redis import Redis

AT_ONCE = 20_000
WAIT_S = 0.1


def refused(error: KafkaError | None, message: Message) -> None:
    """End: what is not acknowledged must not be committed.

    Raises:
        KafkaException: the bus did not take a prediction.
    """
    if error is not None:
        raise KafkaException(error)


def polled(consumer: Consumer) -> list[Message]:
    """The next records.

    Raises:
        KafkaException: there is an error among them.
    """
    messages: list[Message] = consumer.consume(AT_ONCE, WAIT_S)
    for message in messages:
        if message.error() is not None:
            raise KafkaException(message.error())
    return messages


def main(bus: str, store: str, telemetry: str, output: str, model: str) -> None:
    """Consume, score, publish, commit, until terminated."""
    job = Job(model)
    database = Redis.from_url(store)
    consumer = Consumer({
        "bootstrap.servers": bus, "group.id": f"{output}.hand", "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    })  # fmt: skip
    producer = Producer({
        "bootstrap.servers": bus, "acks": "all", "enable.idempotence": True,
        "queue.buffering.max.messages": 1_000_000, "delivery.report.only.error": True,
    })  # fmt: skip
    consumer.subscribe([telemetry])
    collect_less()
    logs: dict[int, str] = {}
    while True:
        records = polled(consumer)
        if not records:
            continue
        partitions = [record.partition() for record in records]
        logs |= {n: f"{telemetry}[{n}]@" for n in set(partitions) - logs.keys()}
        predictions, newest, kept = job.predict(
            [record.value() for record in records],
            [f"{logs[n]}{record.offset()}" for n, record in zip(partitions, records, strict=True)],
            [record.timestamp()[1] for record in records],
        )
        if not predictions:
            continue
        database.mset(newest)
        for n, value in zip(kept, predictions, strict=True):
            producer.produce(
                output, value, records[n].key(), partition=partitions[n], on_delivery=refused
            )
        if producer.flush():
            raise SystemExit("predictions were not acknowledged")
        consumer.commit(asynchronous=False)


if __name__ == "__main__":
    main(*told())
