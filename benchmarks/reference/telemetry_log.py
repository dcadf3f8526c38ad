"""The log every side reads, and the predictions it left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from job import PARTITIONS, events
from scaling_check import Sample
from written import Predictions

from headrace.streams.client.traceparent import TRACEPARENT, new_traceparent

TOPICS_S = 30.0
TWICE = 997
"""Every so many events one is in the log twice; every side must drop the second."""


async def create(bus: str, *names: str, partitions: int = PARTITIONS) -> None:
    """Topics, of four partitions where nothing is said."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bus)
    await admin.start()
    configs = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(8 << 20)}
    try:
        await admin.create_topics(
            [NewTopic(name, partitions, 1, topic_configs=configs) for name in names]
        )
    finally:
        await admin.close()


async def wait_for(bus: str, *names: str) -> None:
    """Return when these topics exist.

    Raises:
        SystemExit: they did not come.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bus)
    await admin.start()
    deadline = time.monotonic() + TOPICS_S
    try:
        while not set(names) <= set(await admin.list_topics()):
            if time.monotonic() > deadline:
                raise SystemExit(f"topics {names} did not come within {TOPICS_S:g} s")
            await asyncio.sleep(0.1)
    finally:
        await admin.close()


async def delete(bus: str, *names: str) -> None:
    """Take topics away, so that a long benchmark does not fill the disk."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bus)
    await admin.start()
    try:
        await admin.delete_topics(list(names))
    finally:
        await admin.close()


def partition_of(device: str, partitions: int = PARTITIONS) -> int:
    """Partition of a device's events, the same for every side."""
    return int(device.rpartition("-")[2]) % partitions


async def fill(
    bus: str,
    topic: str,
    count: int,
    *,
    repeats: bool = False,
    sample: Sample | None = None,
    traced_every: int = 0,
) -> float:
    """Write the log, with `repeats` every 997th event twice; mean size of its events, bytes.

    A sample looks at the events in passing. Of `traced_every` events one has a sampled trace.
    """
    await create(bus, topic)
    rows = events(count) if sample is None else sample.watch(events(count))
    rows = with_repeats(rows) if repeats else rows
    size = await send(bus, topic, rows, traced_every=traced_every)
    return size / (count + count // TWICE if repeats else count)


def with_repeats(rows: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Every row, and each `TWICE`-th of them a second time.

    >>> len(list(with_repeats([("press-0001", b"{}")] * 2000)))
    2002
    """
    for number, row in enumerate(rows, 1):
        yield row
        if number % TWICE == 0:
            yield row


async def send(
    bus: str,
    topic: str,
    rows: Iterable[tuple[str, bytes]],
    partitions: int = PARTITIONS,
    *,
    traced_every: int = 0,
) -> int:
    """Write events, acknowledged, each to the partition of its device; how many bytes."""
    producer = AIOKafkaProducer(bootstrap_servers=bus, acks="all", max_batch_size=1 << 18)
    await producer.start()
    batches = {p: producer.create_batch() for p in range(partitions)}
    sent, size = [], 0
    for number, (device, value) in enumerate(rows, 1):
        size += len(value)
        traced = traced_every and number % traced_every == 0
        headers = [(TRACEPARENT, new_traceparent().encode())] if traced else []
        p = partition_of(device, partitions)
        key = device.encode()
        if batches[p].append(key=key, value=value, timestamp=None, headers=headers) is None:
            sent.append(await producer.send_batch(batches[p], topic, partition=p))
            batches[p] = producer.create_batch()
            batches[p].append(key=key, value=value, timestamp=None, headers=headers)
    for p, batch in batches.items():
        sent.append(await producer.send_batch(batch, topic, partition=p))
    await asyncio.gather(*sent)
    await producer.stop()
    return size


async def await_records(bus: str, topic: str, count: int, patience_s: float) -> bool:
    """Read a topic until it has given so many records; False where they did not come.

    The embedded bus says where a log ends only roughly, so the records themselves are counted.
    """
    consumer = AIOKafkaConsumer(bootstrap_servers=bus, fetch_max_wait_ms=20)
    await consumer.start()
    partitions = [TopicPartition(topic, p) for p in range(PARTITIONS)]
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    deadline, found = time.monotonic() + patience_s, 0
    try:
        while found < count and time.monotonic() < deadline:
            polled = await consumer.getmany(timeout_ms=100)
            found += sum(map(len, polled.values()))
    finally:
        await consumer.stop()
    return found >= count


async def read_predictions(
    bus: str, topic: str, count: int, partitions: int = PARTITIONS, *, named: bool = True
) -> Predictions:
    """Every prediction of a topic of a side that has ended; of transactions, those committed.

    Args:
        bus: host:port.
        topic: To read.
        count: Events of the log.
        partitions: Of the topic.
        named: Whether the side named the partition, which then must be that of the event.

    Raises:
        SystemExit: an event has no prediction, the topic has more records than events, or a
            prediction is not as it is documented.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bus, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()
    assigned = [TopicPartition(topic, p) for p in range(partitions)]
    consumer.assign(assigned)
    ends = await consumer.end_offsets(assigned)
    found, written = Predictions.none(count), 0
    try:
        while any([await consumer.position(tp) < ends[tp] for tp in assigned]):
            for tp, batch in (await consumer.getmany(timeout_ms=200)).items():
                written += len(batch)
                for record in batch:
                    found.take(record.key, record.value, tp.partition if named else None)
    finally:
        await consumer.stop()
    if written != count:
        raise SystemExit(f"{topic} holds {written} predictions of {count} events: repeated or lost")
    return found
