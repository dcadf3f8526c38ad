"""Batch time as a function of size."""

import numpy as np
import pytest

from headrace.serving.timing import BatchTime


def test_base_and_slope_are_learned_from_noisy_calls():
    """A hundred calls of mixed sizes tell what a call costs and what a row costs."""
    random = np.random.default_rng(1)
    time = BatchTime()
    for rows in random.integers(10, 5000, 200).tolist():
        time.observe(rows, (200e-6 + rows * 1e-6) * random.uniform(0.95, 1.05))

    assert time.per_row_s == pytest.approx(1e-6, rel=0.05)
    assert time.seconds(1000) == pytest.approx(1200e-6, rel=0.05)


def test_a_slower_machine_is_noticed():
    """The past is forgotten: after fifty calls or so the new speed counts."""
    time = BatchTime()
    for speed in (1e-6, 3e-6):
        for rows in range(100, 20_000, 100):
            time.observe(rows, rows * speed)

    assert time.per_row_s == pytest.approx(3e-6, rel=0.05)


def test_calls_of_one_size_are_put_down_to_the_rows():
    """Without a spread of sizes there is no line through the points."""
    time = BatchTime()
    for _ in range(5):
        time.observe(100, 0.01)

    assert (time.per_row_s, time.base_s) == (pytest.approx(1e-4), 0.0)


def test_the_slope_is_never_negative():
    """Large calls that happen to be quicker do not make rows free of charge twice over."""
    time = BatchTime()
    time.observe(10, 0.5)
    time.observe(1000, 0.1)

    assert time.per_row_s == 0.0
    assert time.seconds(1_000_000) > 0
