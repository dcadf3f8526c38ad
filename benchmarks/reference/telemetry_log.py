"""The log every side reads, and the predictions it left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from job import PARTITIONS, REFERENCE, Shape, events

TOPICS_S = 30.0


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


async def fill(bus: str, topic: str, count: int, shape: Shape = REFERENCE) -> float:
    """Write the log; mean size of its events, bytes."""
    await create(bus, topic, partitions=shape.partitions)
    return await send(bus, topic, events(count, shape=shape), shape.partitions) / count


async def send(
    bus: str, topic: str, rows: Iterable[tuple[str, bytes]], partitions: int = PARTITIONS
) -> int:
    """Write events, acknowledged, each to the partition of its device; how many bytes."""
    producer = AIOKafkaProducer(bootstrap_servers=bus, acks="all", max_batch_size=1 << 18)
    await producer.start()
    batches = {p: producer.create_batch() for p in range(partitions)}
    sent, size = [], 0
    for device, value in rows:
        size += len(value)
        p = partition_of(device, partitions)
        key = device.encode()
        if batches[p].append(key=key, value=value, timestamp=None) is None:
            sent.append(await producer.send_batch(batches[p], topic, partition=p))
            batches[p] = producer.create_batch()
            batches[p].append(key=key, value=value, timestamp=None)
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


async def read_scores(bus: str, topic: str, count: int, partitions: int = PARTITIONS) -> np.ndarray:
    """float64 (count,): the score of every event, NaN where it has no prediction."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bus, auto_offset_reset="earliest")
    await consumer.start()
    assigned = [TopicPartition(topic, p) for p in range(partitions)]
    consumer.assign(assigned)
    ends = await consumer.end_offsets(assigned)
    scores = np.full(count, np.nan)
    while any([await consumer.position(tp) < ends[tp] for tp in assigned]):
        for batch in (await consumer.getmany(timeout_ms=200)).values():
            for record in batch:
                prediction = orjson.loads(record.value)
                scores[int(prediction["event_id"].rpartition("-")[2])] = prediction["score"]
    await consumer.stop()
    return scores


async def read_sample(bus: str, topic: str, partitions: int = PARTITIONS) -> dict[str, object]:
    """One prediction of the topic, decoded."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bus, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign([TopicPartition(topic, p) for p in range(partitions)])
    try:
        record = await consumer.getone()
    finally:
        await consumer.stop()
    found: dict[str, object] = orjson.loads(record.value)
    return found
