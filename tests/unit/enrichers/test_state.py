"""State: rows grow, are copied out and written back, and survive dump and load."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import enrich_world as world

from headrace.enrichers.dedupe import BYTES_PER_ID
from headrace.enrichers.enricher import Enricher
from headrace.enrichers.rows import EntityRows
from headrace.schemas.errors import StateError
from headrace.schemas.views import Feature, View

PIPELINE = world.pipeline()


def enricher(lateness_s: float = 5.0, *features: Feature) -> Enricher:
    """An enricher of these features, or of all."""
    views = {"v": View(features=features)} if features else None
    return Enricher(world.pipeline(views, allowed_lateness_s=lateness_s))


def test_rows_grow_and_keep_what_they_held() -> None:
    """Adding entities beyond the capacity changes no row."""
    layout = enricher().features.layout
    rows = EntityRows(layout)
    for start in range(0, 2000, 100):
        names = [f"d{n}" for n in range(start, start + 100)]
        places = rows.places(names)
        fresh = rows.gather(places)
        assert (fresh["row_offset"] == -1).all()
        fresh["row_offset"] = np.arange(start, start + 100)
        rows.put(names, places, fresh)

    assert len(rows) == 2000
    assert rows.all()["row_offset"].tolist() == list(range(2000))
    assert rows.gather(rows.places(["d7", "new", "d1999"]))["row_offset"].tolist() == [7, -1, 1999]


def test_process_does_not_change_the_state() -> None:
    """Nothing is changed before `fold`, however often a batch is enriched."""
    subject = enricher()
    state = subject.new_state()
    records = world.batch([world.event(f"e{n}", "d0", world.START_MS, load=n) for n in range(5)])
    before = list(state.dump())
    first, second = subject.apply(state, records), subject.apply(state, records)

    assert list(state.dump()) == before
    assert first.featured.values.tobytes() == second.featured.values.tobytes()
    assert dict(first.delta.changed()) == dict(second.delta.changed())


def test_online_rows_are_the_newest_by_event_time() -> None:
    """An older event does not replace the online row; one as old but later in the log does."""
    subject = enricher(5.0, Feature(op="raw", metrics=("load",)))
    state = subject.new_state()
    times = [1000, 3000, 3000, 2000]
    values = [world.event(f"e{n}", "d0", world.START_MS + t, load=n) for n, t in enumerate(times)]
    for offset, value in enumerate(values):
        subject.apply(state, world.batch([value], first=offset)).delta.fold()
    (rows,) = state.online()

    assert (rows.view, rows.entities) == ("v", ["d0"])
    assert (rows.offsets.tolist(), rows.values.tolist()) == ([2], [[2.0]])
    assert rows.event_times_ms.tolist() == [world.START_MS + 3000]


def test_views_share_rows_but_not_columns() -> None:
    """Each view's online rows hold its own columns."""
    subject = Enricher(PIPELINE)
    state = subject.new_state()
    records = world.batch([world.event("e", "d0", world.START_MS, load=2.0, heat=3.0)])
    subject.apply(state, records).delta.fold()

    widths = {rows.view: rows.values.shape for rows in state.online()}
    columns = [c.view for c in PIPELINE.columns()]
    assert widths == {view: (1, columns.count(view)) for view in ("now", "lately")}


def test_rows_of_another_layout_are_refused() -> None:
    """A row of another width is an error that says so, not another feature's number."""
    state = enricher(5.0, Feature(op="raw", metrics=("load",))).new_state()

    with pytest.raises(StateError, match="not 24 bytes wide"):
        state.load([(b"rd0", b"\0" * 32)])


def test_the_layout_digest_changes_with_what_rows_mean() -> None:
    """Another operator, weight, metric order or lateness gives another digest."""
    features = [
        Feature(op="ewma", metrics=("load", "heat")),
        Feature(op="ewma", metrics=("heat", "load")),
        Feature(op="ewma", metrics=("load", "heat"), alpha=0.1),
        Feature(op="delta", metrics=("load", "heat")),
        Feature(op="mean", metrics=("load",), window_s=10),
    ]
    digests = [enricher(5.0, f).features.layout.digest for f in features]
    digests.append(enricher(6.0, features[-1]).features.layout.digest)

    assert len(set(digests)) == len(digests)
    assert enricher(5.0, features[0]).features.layout.digest == digests[0]


def test_columns_share_what_they_need() -> None:
    """Mean and std of one window keep one set of tiles; a second window its own."""
    both = [Feature(op=op, metrics=("load",), window_s=10) for op in ("mean", "std")]
    one = enricher(5.0, both[0]).features.layout.dtype.itemsize
    two = enricher(5.0, *both).features.layout.dtype.itemsize

    assert two - one == 8


def test_memory_grows_with_entities_and_ids() -> None:
    """The stated memory is that of each entity's row and each remembered id."""
    subject = enricher()
    state = subject.new_state()
    values = [world.event(f"e{n}", f"d{n % 3}", world.START_MS, load=n) for n in range(6)]
    subject.apply(state, world.batch(values)).delta.fold()

    assert state.memory_bytes == 3 * subject.features.layout.bytes_per_entity + 6 * BYTES_PER_ID


def test_a_batch_of_only_late_events_changes_no_row() -> None:
    """A batch without a good event has no rows, no online rows, and still folds."""
    subject = enricher()
    state = subject.new_state()
    subject.apply(
        state, world.batch([world.event("a", "d0", world.START_MS + 60_000, load=1.0)])
    ).delta.fold()
    found = subject.apply(state, world.batch([world.event("b", "d1", world.START_MS, load=1.0)]))
    found.delta.fold()

    assert (found.late, len(found.events), len(state.rows)) == ({0: "d1"}, 0, 1)
    assert dict(found.delta.changed()) == {}
