"""The list of what telemetry may say: planted payload gets through nowhere, and is counted."""

from __future__ import annotations

import logging
from collections import Counter

import msgspec
from fakes.otlp_receiver import Receiver
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.errors import BusUnavailableError
from headrace.streams.observe.attributes import ALLOWED, HIDDEN, Told, allowed
from headrace.streams.observe.log_lines import LogKeeper
from headrace.streams.observe.outgoing import MOST_WAITING, Outgoing
from headrace.streams.observe.traces import SpanRecord
from headrace.streams.telemetry import Otlp

PLANTED = "planted {payload} 7351"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

facts = st.dictionaries(
    st.one_of(st.sampled_from(sorted(ALLOWED)), st.text(max_size=20)),
    st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.binary()),
    max_size=6,
)


@settings(deadline=None)
@given(facts)
def test_only_what_is_listed_passes_and_the_rest_is_counted(attributes: dict[str, object]) -> None:
    """Each attribute is kept as it is, or dropped and counted; those kept are on the list."""
    dropped: Counter[str] = Counter()
    kept = allowed(attributes, dropped)

    assert all(attributes[name] == value for name, value in kept.items())
    assert kept.keys() <= ALLOWED.keys()
    assert len(kept) + dropped.total() == len(attributes)


def test_payload_is_dropped_under_any_name() -> None:
    """Unlisted names, text under a number's name, and text that is no name."""
    dropped: Counter[str] = Counter()
    planted = {
        "payload": "x",
        "device_id": "press-07",
        "messaging.kafka.offset": PLANTED,
        "headrace.stage": PLANTED,
    }

    assert allowed(planted, dropped) == {}
    assert dropped == {"name": 2, "value": 2}


def keep(*message: object, name: str = "headrace.delivery", **extra: object) -> LogKeeper:
    keeper = LogKeeper()
    logger = logging.getLogger(name)
    logger.addHandler(keeper)
    try:
        logger.warning(*message, **extra)
    finally:
        logger.removeHandler(keeper)
    return keeper


def test_a_log_line_is_told_without_what_could_be_content() -> None:
    """Numbers, coordinates, errors' codes and our own lines stay; other text is hidden."""
    error = BusUnavailableError(f"the bus said {PLANTED}")
    keeper = keep("%d at %s of %s: %s, %s", 3, "t.v1[2]@7", PLANTED, error, Told("serve is slow"))

    (line,) = keeper.take()
    assert line.text == f"3 at t.v1[2]@7 of {HIDDEN}: bus.unavailable, serve is slow"
    assert keeper.dropped == {"argument": 1}
    assert keeper.take() == []


def test_lines_of_others_and_lines_passed_on_are_not_told() -> None:
    """A library's line may quote anything; a worker's line is told by the worker."""
    foreign = keep(PLANTED, name="somebody.else")
    relayed = keep("%s: %s", "enrich", PLANTED, extra={"relayed": True})

    assert (foreign.take(), relayed.take()) == ([], [])
    assert foreign.dropped == {"logger": 1}


def test_what_waits_is_bounded() -> None:
    """A collector that is away costs the oldest spans, counted."""
    outgoing = Outgoing()
    span = SpanRecord("enrich", TRACE, "", [], 1, 2, {"payload": PLANTED})
    outgoing.add("enrich", [span] * (MOST_WAITING + 3), [])
    spans, _ = outgoing.take()

    assert len(spans) == MOST_WAITING
    assert spans[0].attributes == {"headrace.worker": "enrich"}
    assert outgoing.dropped["span"] == 3
    assert outgoing.dropped["name"] == MOST_WAITING + 3


def test_nothing_planted_reaches_a_collector() -> None:
    """Spans, metrics and lines as the collector got them; credentials go along as headers."""
    outgoing = Outgoing()
    span = SpanRecord("enrich", TRACE, TRACE, [TRACE], 1, 2, {"x": PLANTED, "hop": "h"})
    (line,) = keep("lost %s", PLANTED).take()
    outgoing.add("enrich", [span], [line, msgspec.structs.replace(line, traceparent=TRACE)])
    spans, lines = outgoing.take()
    samples = {("headrace_stream_batches_total", ("press", "enrich")): 7.0}
    with Receiver() as receiver:
        collector = Otlp(receiver.url, {"api-key": "k"}, timeout_s=2)
        assert collector.send_spans(spans)
        assert collector.send_logs(lines)
        assert collector.send_metrics(samples, {}, start_ns=1, now_ns=2)
        collector.close()

    assert PLANTED.encode() not in receiver.everything()
    (told,) = receiver.spans()
    assert [a.key for a in told.attributes] == ["hop", "headrace.worker"]
    assert len(told.links) == 1
    assert [line.body.string_value for line in receiver.lines()] == [f"lost {HIDDEN}"] * 2
    traces = [line.trace_id.hex() for line in receiver.lines()]
    assert traces == ["", TRACE.split("-")[1]]
    assert receiver.lines()[1].span_id.hex() == TRACE.split("-")[2]
    point = receiver.metrics()["headrace_stream_batches_total"].sum.data_points[0]
    assert point.as_double == 7.0
    assert all(headers["api-key"] == "k" for headers in receiver.headers)


def test_a_collector_that_refuses_is_told_apart() -> None:
    """The caller learns that nothing was taken."""
    with Receiver() as receiver:
        receiver.status = 400
        collector = Otlp(receiver.url, {}, timeout_s=1)
        assert not collector.send_metrics({}, {}, start_ns=1, now_ns=2)
        collector.close()
