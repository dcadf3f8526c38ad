"""What ENRICH writes, SERVE reads: the example pipeline from telemetry to summaries, in memory."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
from fakes.serve_world import Final

from headrace.schemas.batch import RecordBatch
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.prediction import Prediction
from headrace.schemas.summary import SummaryRecord
from headrace.schemas.topics import topics_of
from headrace.serving.scorer import load_scorer
from headrace.streams.agents.enrich import EnrichAgent
from headrace.streams.agents.serve import ServeAgent

HOSTS = Path(__file__).parents[3] / "examples" / "hosts"
T0_MS = 1_795_255_200_000
KINDS = ("core", "disk", "net")


def telemetry(rows, *, offset=0, topic):
    """Events of three devices, ten a second each."""
    values, keys, times = [], [], []
    for row in range(offset, offset + rows):
        device = row % 3
        time_ms = T0_MS + row // 3 * 100
        metrics = dict.fromkeys(("ops_per_s", "bytes_per_s", "pressure", "memory"), 0.0)
        event = {
            "id": f"e{row}",
            "device_id": f"device-{device}",
            "time": datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(),
            "seq": row,
            "kind": KINDS[device],
            "metrics": metrics | {"load": 0.5 + row % 7 * 0.05},
            "payload": "raw-content-of-the-device",
        }
        values.append(msgspec.json.encode(event))
        keys.append(event["device_id"].encode())
        times.append(time_ms + 3)
    offsets = np.arange(offset, offset + rows)
    return RecordBatch(topic, 0, offsets, np.array(times), keys, values)


async def test_every_event_is_predicted_and_summarized():
    """900 events give 900 predictions and two windows of three kinds, and none of the raw part."""
    pipeline = load_pipeline(HOSTS / "pipeline.toml")
    topics = topics_of(pipeline)
    scorer = load_scorer(pipeline, HOSTS)
    enrich = EnrichAgent(pipeline, topics, numerics="n")
    serve = ServeAgent(pipeline, topics, scorer, now=lambda: T0_MS / 1000)
    states = enrich.new_state(topics.telemetry.name, 0), serve.new_state(topics.features.name, 0)
    found = {}
    for start in range(0, 900, 150):
        records = telemetry(150, offset=start, topic=topics.telemetry.name)
        first = await enrich.process(states[0], records, rebuilt=False)
        first.delta.fold()
        (blocks,) = first.outputs
        assert blocks.topic == topics.features.name
        batch = RecordBatch(
            blocks.topic,
            0,
            np.array([start]),
            np.array([0]),
            [None] * len(blocks.values),
            list(blocks.values),
        )
        second = await serve.process(states[1], batch, rebuilt=False)
        second.delta.fold()
        for output in second.outputs:
            found.setdefault(output.topic, []).extend(output.values)
    await scorer.close()

    predictions = [
        msgspec.json.decode(v, type=Prediction) for v in found.pop(topics.predictions.name)
    ]
    final = Final(pipeline, quiet=range(1, pipeline.topics.partitions))
    await final.batch(found.pop(topics.partials.name))
    released = final.values()
    summaries = [msgspec.json.decode(v, type=SummaryRecord) for v in released]
    assert not found
    assert [p.event_id for p in predictions] == [f"e{row}" for row in range(900)]
    assert {p.model.name for p in predictions} == {"hosts-change"}
    assert sorted((s.window_start_ms - T0_MS, s.group, s.rows) for s in summaries) == [
        (start, kind, 100) for start in (0, 10_000) for kind in KINDS
    ]
    assert all(s.metrics["load"].count == 100 for s in summaries)
    assert b"raw-content" not in b"".join(released)
