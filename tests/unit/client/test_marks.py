"""Marks: exact, small, and the same after a dump."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.client.latency import Latency
from headrace.streams.client.marks import NOTE_BYTES, PredictionMarks, Verdict
from headrace.streams.client.partition import Partitioner, murmur2
from headrace.streams.client.received import Received


def received(offset: int, rev: int = 0, place: str = "t[0]", ingest: int | None = None) -> Received:
    """A prediction of one source record."""
    times = {"device": 0, "ingest": offset if ingest is None else ingest, "served": 0}
    fields = {
        "id": f"{place}{offset}", "rev": rev, "event_id": "", "device_id": "", "event_time": "",
        "score": 0.5, "label": "", "confidence": 0.5, "tier": "light", "flags": [],
        "feature_age_ms": 0, "model": {"name": "", "version": 1, "digest": ""},
        "source": f"{place}@{offset}", "times_ms": times,
    }  # fmt: skip
    return msgspec.convert(fields, Received)


LOG = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), max_size=60)


@given(LOG, st.integers(0, 60))
def test_a_dump_in_the_middle_changes_no_verdict(log, cut):
    """Marks that went through a note judge the rest as those that did not."""
    whole, parts = PredictionMarks(), PredictionMarks()
    for row, (offset, rev) in enumerate(log):
        if row == cut:
            note, parts = parts.dump(), PredictionMarks()
            assert parts.load(note)
        item = received(offset, rev)
        assert whole.accept(item) is parts.accept(item)


@given(LOG)
def test_nothing_is_delivered_twice(log):
    """No (source, revision) is ever new or superseding twice, and revisions only rise."""
    marks, seen = PredictionMarks(), {}
    for offset, rev in log:
        verdict = marks.accept(received(offset, rev, ingest=0))
        if verdict is not Verdict.REPEAT:
            assert rev > seen.get(offset, -1)
            seen[offset] = rev


def test_a_repeat_changes_nothing():
    """Judging a repeat leaves the marks as they were."""
    marks = PredictionMarks()
    for offset in range(100):
        marks.accept(received(offset))
    before = marks.dump()
    for offset in range(100):
        assert marks.accept(received(offset)) is Verdict.REPEAT
    assert marks.dump() == before


def test_note_fits_what_a_broker_keeps():
    """However many sources and amendments there are, the note fits or is empty."""
    marks = PredictionMarks()
    for offset in range(5000):
        marks.accept(received(offset, 1))
    assert 0 < len(marks.dump()) <= NOTE_BYTES
    for source in range(200):
        marks.accept(received(0, place=f"headrace.press.telemetry.v1[{source}]"))
    assert marks.dump() == ""


@pytest.mark.parametrize("note", ["", "{}", "[]", "x", '{"headrace":2,"marks":{}}', '{"a":1}'])
def test_foreign_notes_are_no_marks(note):
    """A note that somebody else committed is not taken for ours."""
    assert PredictionMarks().load(note) is False


@pytest.mark.parametrize(
    ("key", "expected"),
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536)],
)
def test_murmur2_is_kafkas(key, expected):
    """The values that Kafka's own tests pin."""
    assert murmur2(key) == expected & 0xFFFFFFFF


def test_keys_keep_their_partition_and_others_take_turns():
    """A key always goes to one partition; records without one are spread."""
    place = Partitioner(4).of
    assert len({place(b"press-07") for _ in range(10)}) == 1
    assert {place(None) for _ in range(4)} == {0, 1, 2, 3}


@given(st.lists(st.floats(0.01, 1e7), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_latency_quantiles_are_within_a_percent(values, q):
    """A quantile is within 1 % of the exact one."""
    latency = Latency()
    latency.record(np.array(values))
    exact = np.quantile(values, q, method="inverted_cdf")
    assert latency.quantile(q) == pytest.approx(exact, rel=0.01)
