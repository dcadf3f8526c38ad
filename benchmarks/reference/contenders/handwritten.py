"""The side to beat: what an experienced developer writes by hand with aiokafka.

Everything is batched: `getmany`, one Redis write, one session call and one record batch per polled
partition, commit after the acknowledgements. Events are structs, as `msgspec` gives them, and
predictions fill a template, as Headrace's do. The process restarts at the committed offset; its
EWMAs and its dedupe set start empty then, so a crash changes features, and what was sent before the
commit is sent again. uvloop gained nothing.
"""

from __future__ import annotations

import asyncio
import time

import redis.asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from plain import Job, collect_less, told


async def main(bus: str, store: str, telemetry: str, output: str, model: str) -> None:
    """Consume, score, publish, commit, until terminated."""
    job = Job(model)
    database = redis.asyncio.Redis.from_url(store)
    consumer = AIOKafkaConsumer(
        telemetry, bootstrap_servers=bus, group_id=f"{output}.hand", auto_offset_reset="earliest",
        enable_auto_commit=False, fetch_max_wait_ms=20, max_partition_fetch_bytes=2 << 20,
    )  # fmt: skip
    producer = AIOKafkaProducer(
        bootstrap_servers=bus, acks="all", enable_idempotence=True, max_batch_size=1 << 20,
        max_request_size=8 << 20,
    )  # fmt: skip
    await consumer.start()
    await producer.start()
    collect_less()
    while True:
        polled = await consumer.getmany(timeout_ms=100, max_records=20_000)
        sent = []
        for tp, records in polled.items():
            log = f"{tp.topic}[{tp.partition}]@"
            predictions, newest, kept = job.predict(
                [record.value for record in records],
                [f"{log}{record.offset}" for record in records],
                [record.timestamp for record in records],
            )
            if not predictions:
                continue
            await database.mset(newest)
            batch, now_ms = producer.create_batch(), time.time_ns() // 1_000_000
            for n, value in zip(kept, predictions, strict=True):
                key = records[n].key
                if batch.append(key=key, value=value, timestamp=now_ms) is None:
                    sent.append(await producer.send_batch(batch, output, partition=tp.partition))
                    batch = producer.create_batch()
                    batch.append(key=key, value=value, timestamp=now_ms)
            sent.append(await producer.send_batch(batch, output, partition=tp.partition))
        if sent:
            await asyncio.gather(*sent)
            await consumer.commit()


if __name__ == "__main__":
    asyncio.run(main(*told()))
