"""Faust as its user guide begins: an agent that takes one event at a time.

The rows are gathered and go to the store by a timer, the guide's place for what is periodic; a
`SET` that each event waits for took more than the rest of it.
"""

from __future__ import annotations

from faust_job import COMMIT_S, app, database, job, predictions, telemetry

newest: dict[str, bytes] = {}


@app.agent(telemetry)
async def predict(stream):
    """One event in, one prediction out."""
    async for event in stream.events():
        at = event.message
        source = f"{at.topic}[{at.partition}]@{at.offset}"
        found = job.predict_one(event.value, source, int(at.timestamp * 1000))
        if found is not None:
            prediction, key, row = found
            newest[key] = row
            await predictions.send(key=event.key, value=prediction, partition=at.partition)


@app.timer(interval=COMMIT_S)
async def store():
    """The newest row of every device since the last time, in one write."""
    if newest:
        rows = dict(newest)
        newest.clear()
        await database.mset(rows)


if __name__ == "__main__":
    app.main()
