"""The other end: ``python receiver.py BUS TOPIC RATE COUNT FIRST WARM``, a process of its own.

Says ``ready``, reads the start (seconds on the monotonic clock) from standard input, and takes
predictions until all are there or none came for PATIENCE_S. The latency of event k is from the
moment it was due at the sender, start + k / RATE, to the moment a fetch gave its prediction to this
process; so a sender, broker or pipeline that falls behind is not forgiven. The first WARM
predictions are not counted.
"""

from __future__ import annotations

import gc
import json
import sys
import time

import numpy as np
from arrivals import number_of, percentiles
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from job import PARTITIONS

PATIENCE_S = 5.0
POLL_S = 0.1
AT_ONCE = 10_000


def main(bus: str, topic: str, rate: float, count: int, first: int, warm: int) -> None:
    """Receive, and print the percentiles."""
    consumer = Consumer({
        "bootstrap.servers": bus, "group.id": "receiver", "enable.auto.commit": False,
        "fetch.wait.max.ms": 20, "fetch.queue.backoff.ms": 1, "socket.nagle.disable": True,
    })  # fmt: skip
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(PARTITIONS)])
    skip(consumer, first)
    gc.freeze()
    gc.disable()
    print("ready", flush=True)
    start = float(sys.stdin.readline())
    received = np.full(count, np.nan)
    missing, last = count, max(start, time.monotonic())
    while missing and time.monotonic() - last < PATIENCE_S:
        values = take(consumer)
        now = time.monotonic()
        if values:
            numbers = np.array([number_of(value) for value in values]) - first
            fresh = numbers[(numbers >= 0) & np.isnan(received[numbers])]
            received[fresh] = now
            missing, last = missing - len(fresh), now
    consumer.close()
    due = start + np.arange(count) / rate
    print(json.dumps(percentiles((received - due)[warm:])), flush=True)


def take(consumer: Consumer) -> list[bytes]:
    """Everything that has arrived; waits up to POLL_S for the first."""
    message = consumer.poll(POLL_S)
    if message is None:
        return []
    messages = [message, *consumer.consume(AT_ONCE, timeout=0)]
    for message in messages:
        if message.error() is not None:
            raise KafkaException(message.error())
    return [message.value() for message in messages]


def skip(consumer: Consumer, count: int) -> None:
    """Read past the predictions of earlier rates; the embedded bus does not say where they end."""
    last = time.monotonic()
    while count > 0 and time.monotonic() - last < PATIENCE_S:
        found = len(take(consumer))
        count, last = count - found, time.monotonic() if found else last


if __name__ == "__main__":
    bus_, topic_, rate_, count_, first_, warm_ = sys.argv[1:]
    main(bus_, topic_, float(rate_), int(count_), int(first_), int(warm_))
