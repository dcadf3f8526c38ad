"""The point-in-time join against a reference that looks at one label at a time."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.feature_store.asof import newest_as_of

ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12), st.integers(0, 6)), max_size=25)
LABELS = st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 20)), max_size=15)


def plain(rows, entity, moment, *, known):
    """Walk the log: stop at the first event of the entity that lies beyond the moment."""
    best = -1
    for place, (owner, at, delay) in enumerate(rows):
        if owner != entity:
            continue
        if at > moment or (known and at + delay > moment):
            break
        if best < 0 or at >= rows[best][1]:
            best = place
    return best


@settings(deadline=None)
@given(ROWS, LABELS, st.booleans())
def test_each_label_gets_what_a_walk_over_the_log_gives(rows, labels, known):
    """For any order of events, ties, unknown entities, and moments before the first."""
    columns = np.array(rows, np.int64).reshape(-1, 3)
    wanted = np.array(labels, np.int64).reshape(-1, 2)
    found = newest_as_of(
        columns[:, 0].astype(np.int32),
        columns[:, 1],
        wanted[:, 0].astype(np.int32),
        wanted[:, 1],
        columns[:, 1] + columns[:, 2] if known else None,
    )
    assert found.tolist() == [plain(rows, e, t, known=known) for e, t in labels]


@settings(deadline=None)
@given(ROWS, LABELS, st.integers(0, 25))
def test_what_lies_before_the_rows_has_a_part_in_them(rows, labels, begin):
    """Cut the log anywhere: a row is taken only where the walk over all of it allows that."""
    begin = min(begin, len(rows))
    columns = np.array(rows, np.int64).reshape(-1, 3)[begin:]
    reached = [max((r[1] for r in rows[:begin] if r[0] == e), default=-1) for e in range(4)]
    found = newest_as_of(
        columns[:, 0].astype(np.int32),
        columns[:, 1],
        np.array([e for e, _ in labels], np.int32),
        np.array([t for _, t in labels], np.int64),
        before_ms=np.array(reached, np.int64)[columns[:, 0]],
    )
    for (entity, moment), row in zip(labels, found.tolist(), strict=True):
        late = 0 <= entity < 4 and reached[entity] > moment
        assert row == (-1 if late else plain(rows[begin:], entity, moment, known=False))


@settings(deadline=None)
@given(ROWS, LABELS)
def test_no_event_after_a_label_has_a_part_in_its_row(rows, labels):
    """Whatever comes later than the label could be any other event, and the row stays."""
    columns = np.array(rows, np.int64).reshape(-1, 3)
    wanted = np.array(labels, np.int64).reshape(-1, 2)
    found = newest_as_of(
        columns[:, 0].astype(np.int32), columns[:, 1], wanted[:, 0].astype(np.int32), wanted[:, 1]
    )
    for (entity, moment), row in zip(labels, found.tolist(), strict=True):
        before = [r for r in rows[: row + 1] if r[0] == entity]
        assert all(at <= moment for _, at, _ in before if row >= 0)
