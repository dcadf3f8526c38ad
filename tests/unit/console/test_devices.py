"""Devices ranked by their scores, and features that stand out."""

from __future__ import annotations

import numpy as np
from fakes.predicted import SERVED_MS, predicted
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from headrace.streams.console.devices import FADES, HALF_S, PREDICTIONS, SCORES, DeviceBoard
from headrace.streams.console.why import LEAST_PEERS, standing_out

ROWS = st.lists(st.tuples(st.sampled_from("abcde"), st.none() | st.floats(0, 1)), max_size=200)


@given(rows=ROWS, cut=st.integers(0, 200))
def test_the_board_is_a_fold_of_each_device(rows: list[tuple[str, float | None]], cut: int) -> None:
    """Equal to each device's own history looked at alone, however the stream is cut."""
    board = DeviceBoard("anomaly")
    for part in (rows[:cut], rows[cut:]):
        board.take(predicted(*row) for row in part)

    expected = {}
    for name in {name for name, _ in rows}:
        scores = [score for device, score in rows if device == name]
        highest = 0.0
        for score in scores:
            highest = max(score or 0.0, highest * FADES)
        flagged = sum((score or 0) >= 0.5 for score in scores)
        expected[name] = (highest, flagged, scores[-SCORES:])
    found = board.ranked(10, now_ms=SERVED_MS)
    assert {d["name"]: (d["highest"], d["flagged"], d["scores"]) for d in found} == expected
    assert [d["highest"] for d in found] == sorted((d["highest"] for d in found), reverse=True)
    assert sum(board.tiers.values()) == len(rows)


def test_memory_is_bounded() -> None:
    """The device unseen for longest goes first; of each, scores and predictions are cut."""
    board = DeviceBoard("anomaly", most=3)
    board.take(predicted(name, 0.1) for name in "abca" for _ in range(200))
    assert len(board) == 3
    board.take([predicted("d", 0.9)])
    assert ("b" in board, len(board)) == (False, 3)
    device = board.of("a")
    assert device is not None
    assert (len(device.scores), len(device.newest)) == (SCORES, PREDICTIONS)
    assert board.names(2) == ["a", "d"]


def test_who_stopped_sending_makes_room() -> None:
    """A score that stands long is worth less than a lower one of now; a clock ahead adds none."""
    board = DeviceBoard("anomaly")
    before_ms = SERVED_MS - round(2 * HALF_S * 1000)
    board.take([predicted("gone", 0.8, before_ms), predicted("here", 0.3)])
    found = {d["name"]: d["highest"] for d in board.ranked(2, now_ms=SERVED_MS)}
    assert list(found) == ["here", "gone"]
    assert found["gone"] == 0.8 * 0.25
    assert board.ranked(1, now_ms=before_ms)[0]["highest"] == 0.8


@given(
    others=arrays.arrays(np.float64, st.tuples(st.integers(0, 12), st.integers(1, 4)),
                         elements=st.floats(-1e6, 1e6) | st.just(np.nan)),
    moved=st.integers(-1000, 1000),
)  # fmt: skip
def test_distances_are_told_where_something_can_be_said(others: np.ndarray, moved: int) -> None:
    """The median itself is at 0; enough others with any spread give a sign that is right."""
    own = np.full(others.shape[1], float(moved))
    usual, apart = standing_out(own, others)
    for k in range(others.shape[1]):
        column = others[:, k][np.isfinite(others[:, k])]
        if len(column) < LEAST_PEERS:
            assert np.isnan([usual[k], apart[k]]).all()
            continue
        assert usual[k] == np.median(column)
        if own[k] == usual[k]:
            assert apart[k] == 0.0
        elif np.ptp(column) > 1e-3:
            assert np.sign(apart[k]) == np.sign(own[k] - usual[k])


def test_a_rare_other_value_is_a_spread() -> None:
    """Where more than half are equal the mean distance is taken; where all are, nothing is told."""
    own = np.array([5.0, 5.0, np.nan])
    others = np.array([[0.0, 0.0, 1.0]] * 9 + [[1.0, 0.0, 2.0]])
    usual, apart = standing_out(own, others)
    assert usual.tolist() == [0.0, 0.0, 1.0]
    assert apart[0] > 30
    assert np.isnan(apart[1:]).all()
