"""How long a decision takes: from the moment an event is due to its prediction in hand."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from labelled import Sent, iso
from numpy.typing import NDArray
from stream import input_columns, records_of

from headrace.enrichers.enricher import Enricher
from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.schemas.settings import BusSettings
from headrace.serving.scorer import load_scorer
from headrace.streams.client import Consumer, Producer

SETTLE_S = 2.0
"""Decisions of the first seconds do not count: connections are made and code is loaded."""
LAST_S = 10.0
"""Who is not decided by this long after the last event counts as never."""


async def decisions(
    bus: BusSettings, pipeline: Pipeline, log: list[Sent], *, rate: float, budget_ms: float
) -> dict[str, Any]:
    """Send `log` at a steady rate to a pipeline that runs, and time every decision.

    The k-th event is due at start + k / rate, whatever became of those before it; a sender that is
    late counts against the decision. Sender and receiver are this one process and clock. The
    producer does not linger; nothing else is tuned.

    Args:
        bus: Where the pipeline's bus is.
        pipeline: The pipeline.
        log: Events; each gets a new id, and the time at which it is due.
        rate: Events per second.
        budget_ms: A decision that takes no longer is within its budget, milliseconds.

    Returns:
        Counts, quantiles in milliseconds, and the share of decisions within the budget; an event
        that was never decided is not within it.
    """
    due_s: dict[str, float] = {}
    took_ms: dict[str, float] = {}
    async with (
        Consumer(bus, pipeline) as consumer,
        Producer(bus, pipeline, validate=False, trace=False, linger_ms=0.0) as producer,
    ):
        receiving = asyncio.create_task(_receive(consumer, due_s, took_ms, len(log)))
        await _send(producer, log, rate, due_s)
        await asyncio.wait({receiving}, timeout=LAST_S)
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
    return _report(list(due_s), took_ms, rate, budget_ms)


async def _send(producer: Producer, log: list[Sent], rate: float, due_s: dict[str, float]) -> None:
    start_s, start_ms = time.monotonic(), time.time_ns() // 1_000_000
    for number, sent in enumerate(log):
        at_s = start_s + number / rate
        await asyncio.sleep(max(0.0, at_s - time.monotonic()))
        due_ms = start_ms + round(1000 * number / rate)
        named = f"{start_ms}-{number}"
        written = due_ms if isinstance(sent.event["time"], int) else iso(due_ms)
        due_s[named] = at_s
        value = orjson.dumps({**sent.event, "id": named, "time": written})
        await producer.send(sent.key.encode(), value)


async def _receive(
    consumer: Consumer, due_s: dict[str, float], took_ms: dict[str, float], wanted: int
) -> None:
    async for prediction in consumer:
        if prediction.event_id in due_s:
            took_ms[prediction.event_id] = 1000 * (time.monotonic() - due_s[prediction.event_id])
            if len(took_ms) == wanted:
                return


async def computed(folder: Path, log: list[Sent], *, budget_ms: float) -> dict[str, Any]:
    """Time what is computed for each event alone: decoded, enriched, scored; no bus, no store.

    Args:
        folder: The example's folder.
        log: Events, one after the other.
        budget_ms: As of `decisions`.
    """
    pipeline = load_pipeline(folder / "pipeline.toml")
    enricher, scorer = Enricher(pipeline), load_scorer(pipeline, folder)
    columns, state, took_ms = input_columns(pipeline), enricher.new_state(), []
    for offset, sent in enumerate(log):
        records = records_of([sent], 0, offset)
        began_s = time.perf_counter()
        enriched = enricher.apply(state, records)
        await scorer.score(enriched.featured.values[:, columns])
        enriched.delta.fold()
        took_ms.append(1000 * (time.perf_counter() - began_s))
    await scorer.close()
    return {"bus": False, **_figures(np.array(took_ms), budget_ms)}


def _report(
    names: list[str], took_ms: dict[str, float], rate: float, budget_ms: float
) -> dict[str, Any]:
    counted = names[round(SETTLE_S * rate) :]
    found = np.array([took_ms.get(name, np.inf) for name in counted])
    return {"rate_per_s": rate, **_figures(found, budget_ms)}


def _figures(took_ms: NDArray[np.float64], budget_ms: float) -> dict[str, Any]:
    """Quantiles of (N,) milliseconds, infinite for what was never decided."""
    quantiles = zip(("p50_ms", "p99_ms", "max_ms"), (0.5, 0.99, 1.0), strict=True)
    return {
        "decisions": int(np.isfinite(took_ms).sum()),
        "never": int(np.isinf(took_ms).sum()),
        **{
            name: round(float(np.quantile(took_ms, q, method="inverted_cdf")), 2)
            for name, q in quantiles
        },
        "budget_ms": budget_ms,
        "within_budget": round(float((took_ms <= budget_ms).mean()), 4),
    }
