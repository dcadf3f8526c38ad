"""Faust as its user guide begins: an agent that takes one event at a time."""

from __future__ import annotations

from faust_job import app, database, job, predictions, telemetry


@app.agent(telemetry)
async def predict(stream):
    """One event in, one prediction out."""
    async for event in stream.events():
        at = event.message
        source = f"{at.topic}[{at.partition}]@{at.offset}"
        found = job.predict_one(event.value, source, int(at.timestamp * 1000))
        if found is not None:
            prediction, key, row = found
            await database.set(key, row)
            await predictions.send(key=event.key, value=prediction, partition=at.partition)


if __name__ == "__main__":
    app.main()
