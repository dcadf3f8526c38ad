"""One at a time or in batches: cost and waiting of each, ``python benchmarks/micro_batches.py``.

First the path of an event through both agents of press in one process, without bus and store, for
batches of several sizes: CPU per event and events per second. Then callers that ask the scorer for
one row each, for several settings of its batcher: rows per second, and how long a caller waits.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from headrace.schemas.batch import RecordBatch
from headrace.schemas.pipeline import Serving, load_pipeline
from headrace.schemas.topics import topics_of
from headrace.serving.scorer import load_scorer
from headrace.streams.agents.enrich import EnrichAgent
from headrace.streams.agents.serve import ServeAgent

PRESS = Path(__file__).parents[1] / "examples" / "press"
SIZES = (1, 10, 100, 1000, 8000)
EVENTS = 8000
"""Of one round; single events a quarter of that."""
SETTINGS = ((1, 0.0), (16, 0.0), (256, 0.0), (256, 1.0), (256, 5.0))
"""Most rows of a call, and the longest wait for company in milliseconds."""
CALLERS, SECONDS = 64, 2.0
BEGIN_MS, DEVICES = 1_795_255_200_000, 12


def strokes(count: int) -> list[bytes]:
    """Events of the pipeline's presses, one after the other, each once a second."""
    rng = np.random.default_rng(5)
    values = rng.uniform([70.0, 0.2, 0.1, 0.0], [80.0, 0.4, 0.2, 0.02], (count, 4)).round(5)
    names = ("temperature_c", "vibration_g", "edge_gap_mm", "scratch_share")
    moments = BEGIN_MS + np.arange(count) * 1000 // DEVICES
    times = np.datetime_as_string(moments.astype("datetime64[ms]")).tolist()
    return [
        json.dumps(
            {
                "id": f"s{number}",
                "device_id": f"press-{number % DEVICES}",
                "time": f"{times[number]}Z",
                "line": "abc"[number % 3],
                "metrics": dict(zip(names, row, strict=True)),
            }
        ).encode()
        for number, row in enumerate(values.tolist())
    ]


def records(log: list[bytes], at: int, size: int) -> RecordBatch:
    """Some of the log, as read from a partition."""
    part = log[at : at + size]
    offsets = np.arange(at, at + len(part))
    return RecordBatch(
        "strokes", 0, offsets, BEGIN_MS + offsets * 1000 // DEVICES, [b"k"] * len(part), [*part]
    )


async def path(log: list[bytes], size: int) -> dict[str, float]:
    """Cost of `log` through ENRICH and SERVE in batches of `size`."""
    pipeline = load_pipeline(PRESS / "pipeline.toml")
    topics, scorer = topics_of(pipeline), load_scorer(pipeline, PRESS)
    enrich = EnrichAgent(pipeline, topics, numerics="n")
    serve = ServeAgent(pipeline, topics, scorer)
    states = enrich.new_state(topics.telemetry.name, 0), serve.new_state(topics.features.name, 0)
    batches = [records(log, at, size) for at in range(0, len(log), size)]
    predicted, began_s, began_cpu_s = 0, time.perf_counter(), time.process_time()
    for number, batch in enumerate(batches):
        first = await enrich.process(states[0], batch, rebuilt=False)
        first.delta.fold()
        [blocks] = [out for out in first.outputs if out.topic == topics.features.name]
        offsets = number * 16 + np.arange(len(blocks.values))
        none: list[bytes | None] = [None] * len(offsets)
        read = RecordBatch(blocks.topic, 0, offsets, offsets, none, list(blocks.values))
        second = await serve.process(states[1], read, rebuilt=False)
        second.delta.fold()
        predicted += second.counts["out"]
    took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    await scorer.close()
    if predicted != len(log):
        raise SystemExit(f"{predicted} of {len(log)} events were predicted; this is no result")
    return {
        "batch": size,
        "events_per_s": round(len(log) / took_s),
        "cpu_us_per_event": round(cpu_s * 1e6 / len(log), 1),
    }


async def waits(most_rows: int, delay_ms: float) -> dict[str, float]:
    """Callers that ask for one row each, again as soon as they are answered."""
    serving = Serving(max_batch_rows=most_rows, max_queue_delay_ms=delay_ms, cache="off")
    pipeline = msgspec.structs.replace(load_pipeline(PRESS / "pipeline.toml"), serving=serving)
    scorer = load_scorer(pipeline, PRESS)
    row = np.zeros((1, len(pipeline.model_inputs)))
    took: list[float] = []

    async def ask(until_s: float) -> None:
        began_s = time.perf_counter()
        while True:
            await scorer.score(row)
            now_s = time.perf_counter()
            took.append(now_s - began_s)
            if now_s >= until_s:
                return
            began_s = now_s  # its turn of the event loop is a wait, too
            await asyncio.sleep(0)

    calls = scorer.batcher.time.calls
    until_s = time.perf_counter() + SECONDS
    await asyncio.gather(*(ask(until_s) for _ in range(CALLERS)))
    calls = scorer.batcher.time.calls - calls
    await scorer.close()
    return {
        "most_rows": most_rows,
        "delay_ms": delay_ms,
        "rows_per_s": round(len(took) / SECONDS),
        "rows_per_call": round(len(took) / max(calls, 1), 1),
        "p50_ms": round(float(np.quantile(took, 0.5)) * 1e3, 2),
        "p99_ms": round(float(np.quantile(took, 0.99)) * 1e3, 2),
    }


async def main(*, as_json: bool) -> None:
    """Print a line for each size and setting."""
    log = strokes(EVENTS)
    found: dict[str, list[dict[str, Any]]] = {
        "path": [await path(log[: EVENTS // (4 if size == 1 else 1)], size) for size in SIZES],
        "scorer": [await waits(*setting) for setting in SETTINGS],
    }
    print(json.dumps(found) if as_json else "\n".join(map(str, found["path"] + found["scorer"])))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    asyncio.run(main(as_json=parser.parse_args().json))
