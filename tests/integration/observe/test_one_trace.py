"""One trace from the producer over both stages to the consumer; and nothing of content gets out."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes.otlp_receiver import Receiver
from integration.setup.command import Setup

from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.schemas.settings import BusSettings
from headrace.streams.client import Consumer, Producer
from headrace.streams.client.producer import Record
from headrace.streams.client.received import Received
from headrace.streams.client.traceparent import new_traceparent

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="its processes are found in /proc"),
]

PLANTED = "planted-payload-7351"


async def _through(bus: BusSettings, pipeline: Pipeline, traceparent: str) -> Received:
    """One event sent, and its prediction; beside it what must not get out."""
    metrics = dict.fromkeys(pipeline.input.metric_names, 1.0)
    async with Consumer(bus, pipeline) as predictions, Producer(bus, pipeline) as producer:
        broken = json.dumps({"device_id": PLANTED, "payload": PLANTED}).encode()
        raw = Producer(bus, pipeline, validate=False)
        async with raw:
            await raw.send_many([Record(broken, PLANTED.encode())])
        await producer.emit(PLANTED, metrics, traceparent=traceparent)
        async with asyncio.timeout(20):
            async for prediction in predictions:
                return prediction
    raise AssertionError("no prediction came")


def _await(what: str, holds: Callable[[], bool], *, within_s: float = 15.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def test_one_trace_and_no_payload(tmp_path: Path) -> None:
    """The trace id is the same at the producer, in both stages' spans and at the consumer.

    Each span's parent is the span before, in another process; the dead letter, the entity and the
    payload beside it are in no span, metric or log line that leaves, nor at /metrics.
    """
    setup = Setup.of_hosts(tmp_path)
    setup.edit("[views", "[observe]\nslow_ms = 0.001\n\n[views")
    traceparent = new_traceparent()
    with Receiver() as receiver:
        setup.environ |= {
            "HEADRACE_OTLP": receiver.url,
            "HEADRACE_OTLP_EVERY_S": "0.3",
            "HEADRACE_HEALTH": "127.0.0.1:0",
        }
        with setup.start("up", str(setup.file)) as command:
            assert command.process.stdout is not None
            health = command.process.stdout.readline().split()[1].removesuffix("/healthz")
            exported = command.process.stdout.readline()
            command.await_line("ready")
            bus = BusSettings(url=re.findall(r"HEADRACE_BUS=(\S+)", exported)[0])
            received = asyncio.run(_through(bus, load_pipeline(setup.file), traceparent))
            _await("spans of both stages", lambda: len({s.name for s in receiver.spans()}) == 3)
            with urllib.request.urlopen(f"{health}/metrics", timeout=5) as answer:
                scraped = answer.read()
            told = setup.run("top", health.removeprefix("http://"), "--json")
            command.process.send_signal(signal.SIGTERM)
            assert command.end().code == 0

    spans = {span.name: span for span in receiver.spans()}
    enrich, serve = spans["enrich"], spans["serve"]
    trace, sender = traceparent.split("-")[1:3]
    assert enrich.trace_id.hex() == serve.trace_id.hex() == trace
    assert enrich.parent_span_id.hex() == sender
    assert serve.parent_span_id == enrich.span_id
    assert received.traceparent == f"00-{trace}-{serve.span_id.hex()}-01"
    assert enrich.start_time_unix_nano <= serve.end_time_unix_nano
    assert spans["slow event"].parent_span_id == enrich.span_id
    (view,) = json.loads(told.out)["pipelines"]
    assert {"ingest_to_enrich", "device_to_prediction"} <= {p["hop"] for p in view["latencies"]}
    assert [stage["events"]["out"] for stage in view["stages"] if not stage["inside"]] == [1, 1]
    assert b"headrace_stream_latency_seconds_bucket" in scraped
    assert {"headrace_stream_events_total", "headrace_stream_latency_seconds"} <= set(
        receiver.metrics()
    )
    assert PLANTED.encode() not in receiver.everything() + scraped + told.out.encode()
