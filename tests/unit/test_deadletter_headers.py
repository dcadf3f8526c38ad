"""A dead letter's headers: two owners told apart, and a history that survives another try."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.schemas.deadletter import (
    Tried,
    deadletter_headers,
    deadletter_value,
    parse_source,
    redrive_headers,
    split_headers,
    tried,
)
from headrace.schemas.errors import Source

AT = Source("headrace.press.deadletter.v1", 2, 17)
NAMES = st.sampled_from(["code", "source", "stage", "traceparent", "ce_id", "headrace-attempt"])
ORIGINAL = st.lists(st.tuples(NAMES, st.binary(max_size=9)), max_size=6)
TRIES = st.builds(Tried, st.integers(1, 99_999), st.integers(0, 10**14))


def ours(**parts) -> list[tuple[str, bytes]]:
    """Our headers on a dead letter."""
    facts = {"stage": "enrich", "pipeline": "press", "pipeline_digest": "0" * 16}
    return deadletter_headers("json.depth", AT, **facts, **{"first_seen_ms": 7, **parts})


@given(original=ORIGINAL, value=st.sampled_from([None, b"{", b"x" * ((1 << 20) + 1)]))
def test_the_records_own_headers_come_back_whole(original, value):
    """Whatever a record's headers are called, they are told from ours, in their order."""
    _, cut = deadletter_value(value)
    found, named = split_headers([*original, *ours(), *cut])

    assert list(found) == original
    assert named == dict([*ours(), *cut])


@given(original=ORIGINAL, first=TRIES, second=TRIES)
def test_the_last_try_is_the_one_that_is_read(original, first, second):
    """However often a record is redriven, it says which try it is, and its own headers stay."""
    plain = [pair for pair in original if not pair[0].startswith("headrace-")]
    once = redrive_headers(original, AT, first)
    twice = redrive_headers(once, AT, second)

    assert tried(once, 1) == first
    assert tried(twice, 1) == second
    assert twice[:-3] == plain
    assert len(twice) == len(plain) + 3


@pytest.mark.parametrize(
    "attempt", [b"", b"0", b"-1", b"two", b"1e9", b"9" * 40, "٣".encode(), None]
)
def test_what_a_producer_writes_there_is_not_believed(attempt):
    """A header that is no small positive number leaves the record at its first try."""
    headers = [("headrace-attempt", attempt), ("headrace-first-seen", b"7")]

    assert tried(headers, 90) == Tried(1, 90)


@given(
    st.builds(
        Source,
        st.from_regex(r"[a-z.\[\]@-]{1,30}", fullmatch=True),
        st.integers(0, 9),
        st.integers(0, 10**17),
    )
)
def test_coordinates_are_read_back(source):
    """Text of coordinates leads to the same coordinates."""
    assert parse_source(str(source)) == source


@pytest.mark.parametrize("text", ["", "t", "t[0]", "t@7", "[0]@7", "t[x]@7", "t[0]@", "t[0]@7 "])
def test_other_text_is_no_coordinates(text):
    """What names no record is refused."""
    with pytest.raises(ValueError, match="expected topic"):
        parse_source(text)


def test_the_model_is_named_where_one_refused():
    """A dead letter of a model says which one."""
    assert ours(model="9f2c41d0")[-1] == ("model", b"9f2c41d0")
    assert "model" not in dict(ours())
