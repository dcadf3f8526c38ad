"""A drill's orders reach model and clock, and a cursed row is cursed in any batch."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from headrace.schemas.errors import SettingsError
from headrace.schemas.protocols import Scores
from headrace.streams.drill.ordered_worker import ONE_IN, OrderedScorer, cursed
from headrace.streams.drill.orders import Orders, OrdersFile, give, orders_of

ROWS = np.random.default_rng(1).normal(size=(4000, 3))


class Known:
    """A scorer that gives what it was given."""

    model = "known"

    async def score(self, features) -> Scores:
        one = features[:, 0].astype(np.float32)
        return Scores(one, one, one > 0, np.zeros(len(one), np.uint8), ("light",), {})


def test_orders_are_seen_as_soon_as_they_are_given(tmp_path) -> None:
    """Each new one, also within one tick of the clock; none at all before the first."""
    file = OrdersFile(tmp_path / "x.orders")
    assert file.now() == Orders()

    for number in range(20):
        give(tmp_path / "x.orders", Orders(slow_s=float(number)))
        assert file.now().slow_s == number


def test_a_raising_model_raises_for_cursed_rows_only(tmp_path) -> None:
    """One in fifty or so; all others are scored, and all are when it is over."""
    scorer = OrderedScorer(Known(), OrdersFile(tmp_path / "x"))  # type: ignore[arg-type]
    marks = cursed(ROWS)
    assert 0 < marks.sum() < 3 * len(ROWS) / ONE_IN

    give(tmp_path / "x", Orders(raises=True))
    found = asyncio.run(scorer.score(ROWS[~marks]))
    assert len(found.score) == (~marks).sum()
    with pytest.raises(RuntimeError, match="the drill has the model raise"):
        asyncio.run(scorer.score(ROWS))
    give(tmp_path / "x", Orders())

    assert len(asyncio.run(scorer.score(ROWS)).score) == len(ROWS)
    assert scorer.model == "known"


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 4))), st.integers(1, 9))
def test_the_curse_does_not_hang_on_the_batch(rows, size) -> None:
    """Cut anyhow, and as a view that is not contiguous."""
    parts = [cursed(rows[start : start + size]) for start in range(0, len(rows), size)]

    assert np.concatenate(parts).tolist() == cursed(rows).tolist()
    assert cursed(np.asfortranarray(rows)).tolist() == cursed(rows).tolist()


def test_without_a_file_it_is_no_ordered_worker() -> None:
    """One line that says what is missing."""
    with pytest.raises(SettingsError, match="HEADRACE_DRILL_ORDERS is unset"):
        orders_of({})


def test_clock_and_model_of_a_worker_obey(tmp_path) -> None:
    """In a process of its own: the agent that is imported afterwards takes both."""
    give(tmp_path / "x", Orders(ahead_s=-86_400.0))
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from headrace.streams.drill.ordered_worker import obey\n"
        "from headrace.streams.drill.orders import OrdersFile\n"
        "obey(OrdersFile(Path(sys.argv[1])))\n"
        "from headrace.streams.agents.serve import ServeAgent\n"
        "from headrace.serving.scorer import load_scorer\n"
        "behind_s = time.time() - ServeAgent.__init__.__kwdefaults__['now']()\n"
        "assert 86_399 < behind_s < 86_401, behind_s\n"
        "assert load_scorer.__module__ == 'headrace.streams.drill.ordered_worker'\n"
    )
    command = [sys.executable, "-c", program, str(Path(tmp_path) / "x")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
