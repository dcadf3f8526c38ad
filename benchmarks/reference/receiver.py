"""The other end: ``python receiver.py BUS TOPIC RATE COUNT FIRST WARM``, a process of its own.

Says ``ready``, reads the start (seconds on the monotonic clock) from standard input, and takes
predictions until all are there or none came for PATIENCE_S. The latency of event k is from the
moment it was due at the sender, start + k / RATE, to the moment a fetch gave its prediction to this
process; so a sender, broker or pipeline that falls behind is not forgiven. The first WARM
predictions are not counted.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from job import PARTITIONS

PATIENCE_S = 5.0
MARK = b'"event_id":"'
DIGITS = slice(len("press-0000-"), len("press-0000-00000000"))


async def main(bus: str, topic: str, rate: float, count: int, first: int, warm: int) -> None:
    """Receive, and print the percentiles."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bus, fetch_max_wait_ms=20, max_partition_fetch_bytes=4 << 20
    )
    await consumer.start()
    partitions = [TopicPartition(topic, p) for p in range(PARTITIONS)]
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    await skip(consumer, first)
    print("ready", flush=True)
    start = float(await asyncio.to_thread(sys.stdin.readline))
    received = np.full(count, np.nan)
    missing, last = count, max(start, time.monotonic())
    while missing and time.monotonic() - last < PATIENCE_S:
        polled = await consumer.getmany(timeout_ms=100)
        now = time.monotonic()
        values = [record.value for records in polled.values() for record in records]
        if values:
            numbers = np.array([number_of(value) for value in values]) - first
            fresh = numbers[(numbers >= 0) & np.isnan(received[numbers])]
            received[fresh] = now
            missing, last = missing - len(fresh), now
    await consumer.stop()
    due = start + np.arange(count) / rate
    print(json.dumps(percentiles((received - due)[warm:])), flush=True)


async def skip(consumer: AIOKafkaConsumer, count: int) -> None:
    """Read past the predictions of earlier rates; the embedded bus does not say where they end."""
    last = time.monotonic()
    while count > 0 and time.monotonic() - last < PATIENCE_S:
        found = sum(map(len, (await consumer.getmany(timeout_ms=100)).values()))
        count, last = count - found, time.monotonic() if found else last


def number_of(prediction: bytes) -> int:
    """The number in the event id of a prediction."""
    at = prediction.index(MARK) + len(MARK)
    return int(prediction[at + DIGITS.start : at + DIGITS.stop])


def percentiles(latency_s: np.ndarray) -> dict[str, float]:
    """Percentiles in ms of float64 (N,) seconds, NaN where nothing came; these are counted, too."""
    came = latency_s[~np.isnan(latency_s)] * 1000
    found: dict[str, float] = {"events": len(latency_s), "missing": len(latency_s) - len(came)}
    if len(came):
        for name, share in (("p50_ms", 50), ("p99_ms", 99), ("p99_9_ms", 99.9), ("max_ms", 100)):
            found[name] = round(float(np.percentile(came, share, method="higher")), 1)
    return found


if __name__ == "__main__":
    bus_, topic_, rate_, count_, first_, warm_ = sys.argv[1:]
    asyncio.run(main(bus_, topic_, float(rate_), int(count_), int(first_), int(warm_)))
