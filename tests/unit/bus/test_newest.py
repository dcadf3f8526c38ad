"""Where a look at the newest records begins."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.bus.newest import where

OFFSET = st.integers(0, 10_000)


@given(seen=OFFSET, begin=OFFSET, length=OFFSET, most=st.integers(1, 2000))
def test_a_look_is_bounded_and_repeats_nothing(
    seen: int, begin: int, length: int, most: int
) -> None:
    """Inside the log, no more than asked, nothing twice; all of it where that is no more."""
    end = begin + length
    start = where(seen, begin, end, most=most)
    assert begin <= start <= end
    assert end - start <= most
    if begin <= seen <= end:
        assert start >= seen
        assert start == seen or end - seen > most
    else:
        assert start == max(begin, end - most)
