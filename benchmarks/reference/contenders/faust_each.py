"""Faust as its user guide begins: an agent that takes one event at a time."""

from __future__ import annotations

from faust_job import app, database, job, predictions, telemetry


@app.agent(telemetry)
async def predict(stream):
    """One event in, one prediction out."""
    async for event in stream.events():
        at = event.message
        source = f"{at.topic}[{at.partition}]@{at.offset}"
        out, newest, _ = job.predict([event.value], [source], [int(at.timestamp * 1000)])
        if out:
            await database.mset(newest)
            await predictions.send(key=event.key, value=out[0], partition=at.partition)


if __name__ == "__main__":
    app.main()
