"""What the two Faust sides share: the app, its two topics, the job and the store.

Faust commits what an agent has finished, after flushing its producer (`acks=-1`, its default), here
every second instead of 2.8 s, so that a measured run sees several commits. The partitioner of its
driver is written in Python, so both sides name the partition: with that and with fewer garbage
collections an event of the `take` side costs a quarter less.
"""

from __future__ import annotations

import sys

import faust
import redis.asyncio
from plain import Job, collect_less, told

BUS, STORE, TELEMETRY, OUTPUT, MODEL = told()
COMMIT_S = 1.0
sys.argv[1:] = ["--loop", "uvloop", "worker", "--without-web", "-l", "info"]

app = faust.App(
    f"{OUTPUT}.faust",
    broker=f"kafka://{BUS}",
    store="memory://",
    value_serializer="raw",
    key_serializer="raw",
    topic_disable_leader=True,
    stream_buffer_maxsize=131_072,
    broker_commit_interval=COMMIT_S,
    producer_linger=0.005,
    producer_max_batch_size=1 << 20,
)
telemetry = app.topic(TELEMETRY, value_type=bytes, key_type=bytes)
predictions = app.topic(OUTPUT, value_type=bytes, key_type=bytes)
job = Job(MODEL)
database = redis.asyncio.Redis.from_url(STORE)
collect_less()
