"""An open-loop sender: ``python sender.py BUS TOPIC RATE COUNT FIRST``, a process of its own.

Event k is due at start + k / RATE, whether or not anything downstream keeps up. Says ``ready``,
reads the start (seconds on the monotonic clock) from standard input, sends, and says how far its
sends fell behind their schedule. A batch waits up to LINGER_MS, Kafka's own default, for company.
The client is librdkafka, which leaves more of the machine to the side that is measured.
"""

from __future__ import annotations

import gc
import json
import sys
import time

from confluent_kafka import Producer
from job import PARTITIONS, events

LINGER_MS = 5
STEP_S = 0.001
"""Between two looks at the schedule."""


def main(bus: str, topic: str, rate: float, count: int, first: int) -> None:
    """Send every event in its time."""
    ready = [(device.encode(), value) for device, value in events(count, first=first)]
    producer = Producer({
        "bootstrap.servers": bus, "acks": "all", "linger.ms": LINGER_MS,
        "queue.buffering.max.messages": 2_000_000, "socket.nagle.disable": True,
    })  # fmt: skip
    producer.list_topics(topic, timeout=10)
    gc.freeze()
    gc.disable()
    print("ready", flush=True)
    start = float(sys.stdin.readline())
    time.sleep(max(0.0, start - time.monotonic()))
    sent, behind_s = 0, 0.0
    while sent < count:
        now = time.monotonic() - start
        due = min(count, int(now * rate) + 1)
        if due > sent:
            behind_s = max(behind_s, now - sent / rate)
        for number in range(sent, due):
            key, value = ready[number]
            producer.produce(topic, value, key, partition=(first + number) % PARTITIONS)
        sent = due
        producer.poll(0)
        time.sleep(STEP_S)
    if producer.flush(30):
        raise SystemExit("the bus did not take every event")
    print(json.dumps({"most_behind_ms": round(behind_s * 1000, 1)}), flush=True)


if __name__ == "__main__":
    bus_, topic_, rate_, count_, first_ = sys.argv[1:]
    main(bus_, topic_, float(rate_), int(count_), int(first_))
