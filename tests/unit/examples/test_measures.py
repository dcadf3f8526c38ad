"""The figures of a model card, against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from fakes.examples import EXAMPLES
from hypothesis import given
from hypothesis import strategies as st
from labelled import load_simulation
from measures import judged, roc_auc

scores = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=12)


@given(scores, scores)
def test_the_area_is_the_share_of_pairs_in_order(low: list[float], high: list[float]) -> None:
    """Every pair of one normal and one other counts 1, a half where they tie, or 0."""
    pairs = [(h > l) + (h == l) / 2 for l in low for h in high]  # noqa: E741

    assert roc_auc(np.array(low), np.array(high)) == pytest.approx(np.mean(pairs), abs=1e-5)


@given(st.lists(st.tuples(st.sampled_from([-1, 0, 1]), st.booleans()), min_size=2, max_size=30))
def test_what_is_not_judged_does_not_count(rows: list[tuple[int, bool]]) -> None:
    """Precision, recall and false alarms are those of the judged rows, counted one by one."""
    rows = [*rows, (0, False), (1, True)]
    labels = np.array([label for label, _ in rows], np.int8)
    alarms = np.array([float(alarm) for _, alarm in rows])

    found = judged(labels, np.array(["ill"] * len(rows)), alarms, 0.5)

    hits, false = rows.count((1, True)), rows.count((0, True))
    wanted, normal = hits + rows.count((1, False)), false + rows.count((0, False))
    assert found["precision"] == pytest.approx(hits / (hits + false), abs=1e-5)
    assert found["recall"] == pytest.approx(hits / wanted, abs=1e-5)
    assert found["recall_by_kind"] == {"ill": found["recall"]}
    assert found["false_alarm_share"] == pytest.approx(false / normal, abs=1e-5)
    assert found["rows"] == {"normal": normal, "to_find": wanted}


def test_an_example_without_a_simulation_is_one_line() -> None:
    """A folder that has none is named."""
    with pytest.raises(OSError, match=r"hosts.simulation\.py"):
        load_simulation(EXAMPLES / "hosts")
