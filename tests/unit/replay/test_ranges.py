"""Ranges: what is asked for, laid over what the log holds; what is not there is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.schemas.errors import SettingsError
from headrace.schemas.ids import prediction_ids, source_offset
from headrace.streams.replay.ranges import Edges, Plan, Span, Wanted, lay_out, parse_offsets

NOW = 1_000_000


def plan(wanted: Wanted, **edges: Edges) -> Plan:
    wanted.check()
    return lay_out("t", wanted, {int(k[1:]): edge for k, edge in edges.items()}, now_ms=NOW)


def test_a_range_inside_the_log_misses_nothing() -> None:
    """Offsets that are all there are read, and no partition that was not named."""
    found = plan(Wanted(offsets={1: (5, 9)}), p0=Edges(0, 10, 0, 10), p1=Edges(2, 10, 2, 10))

    assert found.spans == (Span(1, 5, 9),)
    assert found.missing == ()


def test_expired_and_unwritten_offsets_are_named() -> None:
    """The part below the log's begin and the part beyond its end are each said."""
    found = plan(Wanted(offsets={0: (5, 30)}), p0=Edges(10, 20, 10, 20))

    assert found.spans == (Span(0, 10, 20),)
    assert [(m.why, m.start, m.stop) for m in found.missing] == [
        ("expired", 5, 10),
        ("future", 20, 30),
    ]


def test_a_range_wholly_expired_or_unwritten_is_said() -> None:
    """No rows, and the reason."""
    expired = plan(Wanted(offsets={0: (1, 4)}), p0=Edges(10, 20, 10, 20))
    future = plan(Wanted(offsets={0: (40, 50)}), p0=Edges(10, 20, 10, 20))

    assert (expired.spans, expired.missing[0].why, expired.missing[0].stop) == ((), "expired", 4)
    assert (future.spans, future.missing[0].why, future.missing[0].start) == ((), "future", 40)


def test_a_time_before_the_log_begins_is_said_where_some_has_expired() -> None:
    """A log that begins at offset 0 has lost nothing; one that begins later may have."""
    wanted = Wanted(start_ms=500)

    assert plan(wanted, p0=Edges(0, 9, 0, 9)).missing == ()
    assert plan(wanted, p0=Edges(3, 9, 4, 9, first_ms=400)).missing == ()
    assert [m.why for m in plan(wanted, p0=Edges(3, 9, 3, 9, first_ms=600)).missing] == ["expired"]


def test_a_range_that_ends_in_the_future_is_said() -> None:
    """What is written until then cannot be in the table."""
    [missing] = plan(Wanted(stop_ms=NOW + 5), p0=Edges(0, 9, 0, 9)).missing
    assert (missing.why, "ends" in missing.line) == ("future", True)


def test_a_range_that_begins_in_the_future_is_said() -> None:
    """An open end does not make it one in which nothing happened."""
    [missing] = plan(Wanted(start_ms=NOW + 5), p0=Edges(0, 9, 9, 9)).missing
    assert (missing.why, "begins" in missing.line) == ("future", True)


@pytest.mark.parametrize(
    ("wanted", "what"),
    [
        (Wanted(start_ms=9, stop_ms=3), "reversed"),
        (Wanted(start_ms=3, stop_ms=3), "empty"),
        (Wanted(offsets={0: (9, 3)}), "reversed"),
        (Wanted(offsets={0: (3, 3)}), "empty"),
    ],
)
def test_a_range_that_nothing_can_be_in_is_refused(wanted: Wanted, what: str) -> None:
    """Reversed and empty ranges are mistakes, and named as such."""
    with pytest.raises(SettingsError, match=what):
        wanted.check()


def test_an_unknown_partition_is_refused() -> None:
    """A partition that the topic has not is a mistake, not an empty table."""
    with pytest.raises(SettingsError, match="no partition 7"):
        plan(Wanted(offsets={7: (None, None)}), p0=Edges(0, 9, 0, 9))


@pytest.mark.parametrize("text", ["", "a", "0:9-3x", "0,0", "0:-", "-1", "0:1:2"])
def test_offsets_of_another_form_are_refused_or_whole(text: str) -> None:
    """What is not understood is refused; an open range on both sides is the whole partition."""
    if text == "0:-":
        assert parse_offsets(text) == {0: (None, None)}
        return
    with pytest.raises(SettingsError, match="not understood"):
        parse_offsets(text)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 60))
def test_parts_are_the_span_and_cut_alike(a: int, b: int, size: int) -> None:
    """Parts join to their span; overlapping replays have the same cuts where both have one."""
    start, stop = sorted((a, b))
    parts = Plan(topic="t", wanted=Wanted(), spans=(Span(0, start, stop),)).parts(size)

    assert [o for p in parts for o in range(p.start, p.stop)] == list(range(start, stop))
    assert all(p.start % size == 0 for p in parts[1:])


@given(st.integers(0, 2**62), st.integers(0, 99))
def test_an_id_leads_back_to_its_offset(offset: int, partition: int) -> None:
    """Every prediction id names its source record, and no other partition claims it."""
    import numpy as np

    [made] = prediction_ids("press", "t", partition, np.array([offset]))

    assert source_offset(made.decode(), "press", "t", partition) == offset
    assert source_offset(made.decode(), "press", "t", partition + 1) is None
    assert source_offset("no id", "press", "t", partition) is None
