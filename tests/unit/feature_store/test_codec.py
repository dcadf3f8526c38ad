"""Rows in bytes."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from headrace.feature_store.codec import pack_rows, row_bytes, unpack_rows
from headrace.schemas.errors import FatalError
from headrace.schemas.protocols import OnlineRows

EXACT = st.integers(-(2**53), 2**53)


def rows(times: list[int], offsets: list[int], values: object) -> OnlineRows:
    names = [f"e{n}" for n in range(len(times))]
    table = np.asarray(values, np.float64)
    return OnlineRows("v", names, np.array(times, np.int64), np.array(offsets, np.int64), table)


def test_the_layout_is_fixed() -> None:
    """A row is four big-endian doubles and then its columns, little-endian."""
    packed = pack_rows(rows([1_795_255_200_123], [8812], [[71.2, 0.31]]), epoch=3)
    assert packed == struct.pack(">dddd", 0, 1_795_255_200_123, 3, 8812) + struct.pack(
        "<dd", 71.2, 0.31
    )


@given(
    times=st.lists(EXACT, min_size=1, max_size=5),
    epoch=st.integers(0, 2**53),
    width=st.integers(0, 4),
    data=st.data(),
)
def test_packing_loses_nothing(
    times: list[int], epoch: int, width: int, data: st.DataObject
) -> None:
    """Times and the bits of every value survive; missing rows stay missing."""
    values = data.draw(npst.arrays(np.float64, (len(times), width)))
    packed, size = pack_rows(rows(times, times, values), epoch), row_bytes(width)
    cut = [packed[at * size : (at + 1) * size] for at in range(len(times))]
    answer = unpack_rows([None, *cut], width=width, ttl_s=1e300, now_ms=0)
    assert answer.found.tolist() == [False] + [True] * len(times)
    assert answer.event_times_ms[1:].tolist() == times
    assert answer.values[1:].tobytes() == values.tobytes()
    assert np.isnan(answer.values[0]).all()


@pytest.mark.parametrize(("times", "offsets"), [([2**53 + 1], [0]), ([0], [-(2**53) - 1])])
def test_inexact_numbers_are_refused(times: list[int], offsets: list[int]) -> None:
    """What a double cannot order exactly is not packed, and the message holds no value."""
    with pytest.raises(FatalError) as caught:
        pack_rows(rows(times, offsets, [[42.5]]), epoch=0)
    assert "42.5" not in str(caught.value)
    assert "e0" not in str(caught.value)


def test_rows_of_another_size_are_not_found() -> None:
    """Bytes that are no row of this width are not found instead of misread."""
    packed = pack_rows(rows([5], [5], [[1.0, 2.0]]), epoch=0)
    answer = unpack_rows([packed, packed[:-1], b""], width=2, ttl_s=1e300, now_ms=0)
    assert answer.found.tolist() == [True, False, False]
    assert not unpack_rows([packed], width=3, ttl_s=1e300, now_ms=0).found.any()
