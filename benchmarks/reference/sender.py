"""An open-loop sender: ``python sender.py BUS TOPIC RATE COUNT FIRST``, a process of its own.

Event k is due at start + k / RATE, whether or not anything downstream keeps up. Says ``ready``,
reads the start (seconds on the monotonic clock) from standard input, sends, and says how far its
sends fell behind their schedule. A batch waits up to LINGER_S, Kafka's own default, for company.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from aiokafka import AIOKafkaProducer
from job import PARTITIONS, events

LINGER_S = 0.005


async def main(bus: str, topic: str, rate: float, count: int, first: int) -> None:
    """Send every event in its time."""
    ready = [(device.encode(), value) for device, value in events(count, first=first)]
    producer = AIOKafkaProducer(bootstrap_servers=bus, acks="all", max_batch_size=1 << 20)
    await producer.start()
    await producer.partitions_for(topic)
    print("ready", flush=True)
    start = float(await asyncio.to_thread(sys.stdin.readline))
    sent, behind_s, acks = 0, 0.0, []
    await asyncio.sleep(max(0.0, start - time.monotonic()))
    while sent < count:
        due = min(count, int((time.monotonic() - start) * rate) + 1)
        if due > sent:
            behind_s = max(behind_s, time.monotonic() - start - sent / rate)
        for p in range(PARTITIONS):
            batch = producer.create_batch()
            for key, value in ready[sent + (p - sent) % PARTITIONS : due : PARTITIONS]:
                if batch.append(key=key, value=value, timestamp=None) is None:
                    raise SystemExit("a batch is full: the schedule is more than 1 MiB behind")
            if batch.record_count():
                acks.append(await producer.send_batch(batch, topic, partition=p))
        sent = due
        await asyncio.sleep(LINGER_S)
    await asyncio.gather(*acks)
    await producer.stop()
    print(json.dumps({"most_behind_ms": round(behind_s * 1000, 1)}), flush=True)


if __name__ == "__main__":
    bus_, topic_, rate_, count_, first_ = sys.argv[1:]
    asyncio.run(main(bus_, topic_, float(rate_), int(count_), int(first_)))
