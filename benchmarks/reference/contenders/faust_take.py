"""Faust as its user guide does batches: `take` up to 1,000, one write and one call each.

Faust commits what the agent has finished, after flushing its producer (`acks=-1`, its default).
"""

from __future__ import annotations

import sys

import faust
import redis.asyncio
from plain import Job

BUS, STORE, TELEMETRY, OUTPUT, MODEL = sys.argv[1:6]
sys.argv[1:] = ["--loop", "uvloop", "worker", "--without-web", "-l", "info"]

app = faust.App(
    f"{OUTPUT}.faust",
    broker=f"kafka://{BUS}",
    store="memory://",
    value_serializer="raw",
    key_serializer="raw",
    topic_disable_leader=True,
    stream_buffer_maxsize=131_072,
    producer_linger=0.005,
    producer_max_batch_size=1 << 20,
)
telemetry = app.topic(TELEMETRY, value_type=bytes, key_type=bytes)
predictions = app.topic(OUTPUT, value_type=bytes, key_type=bytes)
job = Job(MODEL)
database = redis.asyncio.Redis.from_url(STORE)


@app.agent(telemetry)
async def predict(stream):
    """Up to 1,000 events in, one prediction for each out."""
    async for batch in stream.take_events(1000, within=0.05):
        messages = [event.message for event in batch]
        out, newest, kept = job.predict(
            [event.value for event in batch],
            [f"{m.topic}[{m.partition}]@{m.offset}" for m in messages],
            [int(m.timestamp * 1000) for m in messages],
        )
        if out:
            await database.mset(newest)
            for n, value in zip(kept, out, strict=True):
                await predictions.send(key=batch[n].key, value=value)


if __name__ == "__main__":
    app.main()
