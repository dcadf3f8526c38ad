"""Each event's trace reaches its own prediction, however the stream is cut."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.batch import Headers, RecordBatch
from headrace.schemas.block import FeatureBlock, encode_blocks
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.topics import topics_of
from headrace.serving.scorer import load_scorer
from headrace.streams.agents.enrich import EnrichAgent
from headrace.streams.agents.serve import ServeAgent
from headrace.streams.client.traceparent import TRACEPARENT, is_sampled
from headrace.streams.observe.spans import MOST_SLOW, SpanRecorder
from headrace.streams.observe.traces import MOST_TRACED, traced_rows

HOSTS = Path(__file__).parents[3] / "examples" / "hosts"
PIPELINE = load_pipeline(HOSTS / "pipeline.toml")
TOPICS = topics_of(PIPELINE)
T0_MS = 1_795_255_200_000

kind = st.sampled_from(["sampled", "unsampled", "none", "broken", "dead"])


def traceparent(row: int, flag: str = "01") -> str:
    return f"00-{row + 1:032x}-{row + 1:016x}-{flag}"


def headers_of(row: int, what: str) -> Headers:
    given: dict[str, Headers] = {
        "sampled": [("ce_id", b"x"), (TRACEPARENT, traceparent(row).encode())],
        "dead": [(TRACEPARENT, traceparent(row).encode())],
        "unsampled": [(TRACEPARENT, traceparent(row, "00").encode())],
        "broken": [(TRACEPARENT, b"00-zz"), (TRACEPARENT, None)],
        "none": (),
    }
    return given[what]


def records(kinds: list[str], start: int) -> RecordBatch:
    values = []
    for row, what in enumerate(kinds, start):
        event = {
            "id": f"e{row}",
            "device_id": f"device-{row % 3}",
            "time": "2026-11-21T10:00:00Z",
            "kind": "core",
            "metrics": dict.fromkeys(PIPELINE.input.metric_names, 0.5),
        }
        values.append(b"{" if what == "dead" else msgspec.json.encode(event))
    offsets = np.arange(start, start + len(kinds))
    heads = [headers_of(row, what) for row, what in enumerate(kinds, start)]
    keys: list[bytes | None] = [f"device-{row % 3}".encode() for row in offsets.tolist()]
    times = np.full(len(kinds), T0_MS + 5)
    return RecordBatch(TOPICS.telemetry.name, 0, offsets, times, keys, values, heads)


async def predicted(parts: list[list[str]], together: bool) -> dict[str, str | None]:
    """Traceparent of each prediction by event id, None where it has none."""
    scorer = load_scorer(PIPELINE, HOSTS)
    enrich = EnrichAgent(PIPELINE, TOPICS, numerics="n")
    serve = ServeAgent(PIPELINE, TOPICS, scorer, now=lambda: T0_MS / 1000)
    states = enrich.new_state("t", 0), serve.new_state("f", 0)
    blocks: list[bytes] = []
    start = 0
    for part in parts:
        effects = await enrich.process(states[0], records(part, start), rebuilt=False)
        effects.delta.fold()
        start += len(part)
        blocks += [v for o in effects.outputs if o.topic == TOPICS.features.name for v in o.values]
    batches = [blocks] if together else [[block] for block in blocks]
    found: dict[str, str | None] = {}
    for number, values in enumerate(filter(None, batches)):
        offsets = np.arange(len(values)) + number * 100
        batch: Any = RecordBatch("f", 0, offsets, offsets * 0, [None] * len(values), values)
        effects = await serve.process(states[1], batch, rebuilt=False)
        effects.delta.fold()
        for output in effects.outputs:
            if output.topic != TOPICS.predictions.name:
                continue
            heads = output.headers or [()] * len(output.values)
            for value, head in zip(output.values, heads, strict=True):
                text = dict(head).get(TRACEPARENT)
                found[msgspec.json.decode(value)["event_id"]] = text.decode() if text else None
    await scorer.close()
    return found


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(kind, min_size=1, max_size=8), min_size=1, max_size=4), st.booleans())
def test_a_prediction_carries_the_trace_of_its_event(
    parts: list[list[str]], together: bool
) -> None:
    """Sampled events keep their trace id, others have none; the first has a batch's span."""
    found = asyncio.run(predicted(parts, together))
    kinds = [what for part in parts for what in part]

    assert found.keys() == {f"e{row}" for row, what in enumerate(kinds) if what != "dead"}
    for row, what in enumerate(kinds):
        if what == "dead":
            continue
        text = found[f"e{row}"]
        assert (text is not None) == (what == "sampled")
        assert text is None or text[:36] == traceparent(row)[:36]
    kept = [row for row, what in enumerate(kinds) if what == "sampled"]
    if kept:
        assert found[f"e{kept[0]}"] != traceparent(kept[0])


def test_of_many_sampled_events_the_first_go_on() -> None:
    """What a batch can carry is bounded."""
    heads = [headers_of(row, "sampled") for row in range(100)]
    found = traced_rows(heads, np.arange(100), np.arange(50, 100))

    assert list(found) == list(range(MOST_TRACED))
    assert found[0] == traceparent(50)


@given(
    st.one_of(
        st.builds("00-{:032x}-{:016x}-{:02x}".format, *[st.integers(0, n) for n in (2, 2, 255)]),
        st.text("0123456789abcdefg-", min_size=55, max_size=55),
    )
)
def test_what_goes_on_is_what_is_sampled(text: str) -> None:
    """For any flags, and for what only has the length of a trace."""
    found = traced_rows([[(TRACEPARENT, text.encode())]], np.arange(1), np.arange(1))
    assert found == ({0: text} if is_sampled(text) else {})


def test_unsampled_events_are_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where producers trace everything, the last digit of the flags says enough of most."""
    looked: list[str] = []

    def look(text: str) -> bool:
        looked.append(text)
        return is_sampled(text)

    monkeypatch.setattr("headrace.streams.observe.traces.is_sampled", look)
    heads = [headers_of(row, "unsampled") for row in range(9)] + [headers_of(9, "sampled")]
    assert traced_rows(heads, np.arange(10), np.arange(10)) == {9: traceparent(9)}
    assert looked == [traceparent(9)]


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 40))
def test_traces_travel_in_blocks_and_their_parts(rows: int, one: int, two: int) -> None:
    """A block that was split and decoded has the traces of its own rows."""
    start, stop = sorted((min(one, rows), min(two, rows)))
    asyncio.run(_travel(rows, start, stop))


async def _travel(rows: int, start: int, stop: int) -> None:
    enrich = EnrichAgent(PIPELINE, TOPICS, numerics="n")
    effects = await enrich.process(
        enrich.new_state("t", 0), records(["sampled"] * rows, 0), rebuilt=False
    )
    (value,) = effects.outputs[0].values
    block = FeatureBlock.decode(value)
    assert set(block.traces) == set(range(min(rows, MOST_TRACED)))
    parts = [FeatureBlock.decode(part) for part in encode_blocks(block, 1)]
    assert [part.traces.get(0) for part in parts] == [block.traces.get(r) for r in range(rows)]
    assert block.slice(start, stop).traces == {
        row - start: text for row, text in block.traces.items() if start <= row < stop
    }


def test_slow_events_get_a_span_each_and_no_more_than_a_few() -> None:
    """Of many slow events the slowest are told, with where their time went; of fast ones none."""
    asyncio.run(_slow())


async def _slow() -> None:
    enrich = EnrichAgent(PIPELINE, TOPICS, numerics="n")
    part = records(["none"] * 20, 0)
    effects = await enrich.process(enrich.new_state("t", 0), part, rebuilt=False)
    timed = effects.timed
    assert timed is not None
    timed.log_times_ms = timed.log_times_ms - np.arange(20) * 100
    timed.ready_ms, timed.begun_ms = timed.log_times_ms + 5, T0_MS + 10.0
    recorder = SpanRecorder("hosts", "serve", slow_ms=1000.0)
    recorder.record(timed, part, effects, begun_ms=0, readable_ms=T0_MS + 20.0)

    spans = recorder.take()
    assert [span.attributes["messaging.kafka.offset"] for span in spans] == [19, 18, 17, 16]
    assert len(spans) == MOST_SLOW
    assert spans[0].attributes["headrace.ms.inference_to_prediction"] == 10.0
    assert spans[0].end_ns - spans[0].begin_ns == 1_915_000_000
    recorder.record(timed, part, effects, begun_ms=0, readable_ms=T0_MS - 1900.0)
    assert recorder.take() == []
