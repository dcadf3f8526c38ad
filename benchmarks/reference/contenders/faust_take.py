"""Faust as its user guide does batches: `take` up to 1,000, one write and one call each."""

from __future__ import annotations

from faust_job import app, database, job, predictions, telemetry

MOST = 1000
WITHIN_S = 0.05


@app.agent(telemetry)
async def predict(stream):
    """Up to `MOST` events in, one prediction for each out."""
    async for batch in stream.take_events(MOST, within=WITHIN_S):
        read = [event.message for event in batch]
        out, newest, kept = job.predict(
            [event.value for event in batch],
            [f"{at.topic}[{at.partition}]@{at.offset}" for at in read],
            [int(at.timestamp * 1000) for at in read],
        )
        if out:
            await database.mset(newest)
            for n, value in zip(kept, out, strict=True):
                key, partition = batch[n].key, read[n].partition
                await predictions.send(key=key, value=value, partition=partition)


if __name__ == "__main__":
    app.main()
