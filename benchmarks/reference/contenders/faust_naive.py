"""Faust as its user guide begins: an agent that takes one event at a time.

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
)
telemetry = app.topic(TELEMETRY, value_type=bytes, key_type=bytes)
predictions = app.topic(OUTPUT, value_type=bytes, key_type=bytes)
job = Job(MODEL)
database = redis.asyncio.Redis.from_url(STORE)


@app.agent(telemetry)
async def predict(stream):
    """One event in, one prediction out."""
    async for event in stream.events():
        message = event.message
        source = f"{message.topic}[{message.partition}]@{message.offset}"
        out, newest, _ = job.predict([event.value], [source], [int(message.timestamp * 1000)])
        if out:
            await database.mset(newest)
            await predictions.send(key=event.key, value=out[0])


if __name__ == "__main__":
    app.main()
