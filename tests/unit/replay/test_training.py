"""A training set: the bits that were served, and nothing from after a label's time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import pytest
from fakes.replay_world import World
from fakes.services import without
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.block import FeatureBlock
from headrace.schemas.errors import MissingExtraError, SettingsError
from headrace.streams.cli import features_export
from headrace.streams.producers.tables import TableReader
from headrace.streams.replay import training
from headrace.streams.replay.labels import LabelRows, read_labels
from headrace.streams.replay.ranges import Span
from headrace.streams.replay.training import training_set


@pytest.fixture
async def world(tmp_path):
    """One life."""
    made = World(tmp_path, seed=6)
    made.send(160)
    await made.live()
    return made


def served(world):
    """Every feature row that was published, in log order."""
    found = []
    for value in world.logs.log(world.topics.features.name, 0).values:
        block = FeatureBlock.decode(value)
        names = [block.entities.names[code] for code in block.entities.codes.tolist()]
        found += zip(
            names,
            block.event_times_ms.tolist(),
            block.log_times_ms.tolist(),
            block.offsets.tolist(),
            block.features,
            strict=True,
        )
    return found


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 99), st.integers(1, 159), st.booleans(), st.booleans(), st.sampled_from([1, 30])
)
def test_a_range_begins_with_the_future_of_what_lies_before(seed, start, known, snapshot, fold):
    """Any start: no row of the range owes anything to an event before it and after the label."""

    async def check(folder):
        world = World(folder, seed)
        world.send(start)
        await world.live(snapshot=snapshot)
        world.send(160 - start)
        await world.live()
        rows = served(world)
        moments = np.array([row[1] + 500 * (k % 5) for k, row in enumerate(rows)])
        labels = LabelRows([row[0] for row in rows], moments, {})
        made = await training_set(world.past(), [Span(0, start, 160)], labels, known=known)
        for k, (entity, moment) in enumerate(zip(labels.entities, moments.tolist(), strict=True)):
            best = None
            for row in (row for row in rows if row[0] == entity):
                if row[1] > moment or (known and row[2] > moment):
                    break
                if row[3] >= start and (best is None or row[1] >= best[1]):
                    best = row
            assert made.sources[k] == ("" if best is None else f"{world.source}[0]@{best[3]}")

    with TemporaryDirectory() as folder, patch.object(training, "FOLD_ROWS", fold):
        asyncio.run(check(Path(folder)))


@pytest.mark.parametrize("fold", [1, 30, 1 << 16])
@pytest.mark.parametrize("known", [False, True])
async def test_features_are_those_that_were_served_by_then(world, known, fold, monkeypatch):
    """Each label against a walk over what was published, stopped at the first later event."""
    monkeypatch.setattr(training, "FOLD_ROWS", fold)
    rows = served(world)
    labels = LabelRows(
        [row[0] for row in rows] + ["nobody"],
        np.array([row[1] + 3000 * (k % 3 - 1) for k, row in enumerate(rows)] + [1 << 60]),
        {"label": ["x"] * (len(rows) + 1)},
    )
    made = await training_set(world.past(), [Span(0, 0, 160)], labels, known=known)

    some = 0
    for k, (entity, moment) in enumerate(
        zip(labels.entities, labels.times_ms.tolist(), strict=True)
    ):
        best = None
        for row in (row for row in rows if row[0] == entity):
            if row[1] > moment or (known and row[2] > moment):
                break
            best = row if best is None or row[1] >= best[1] else best
        if best is None:
            assert (made.ages_ms[k], made.sources[k]) == (-1, "")
            assert np.isnan(made.values[k]).all()
        else:
            some += 1
            assert made.sources[k] == f"{world.source}[0]@{best[3]}"
            assert made.values[k].tobytes() == best[4].tobytes()
            assert made.times_ms[k] + made.ages_ms[k] == moment
    assert made.found == some > 50


async def test_memory_does_not_grow_with_the_range(world, monkeypatch):
    """However many rows there are, so many wait."""
    monkeypatch.setattr(training, "FOLD_ROWS", 20)
    waiting, add = [], training._Best.add

    def watched(best, block):
        add(best, block)
        waiting.append(sum(len(rows) for _, _, rows in best._waiting))

    monkeypatch.setattr(training._Best, "add", watched)
    rows = served(world)
    labels = LabelRows([row[0] for row in rows], np.array([row[1] for row in rows]), {})

    made = await training_set(world.past(), [Span(0, 0, 160)], labels)

    assert made.found > 100
    assert max(waiting) < 20


async def test_features_that_are_too_old_are_missing(world):
    """A row beyond the age that was asked for is none."""
    rows = served(world)
    labels = LabelRows([rows[-1][0]], np.array([max(row[1] for row in rows) + 90_000]), {})
    assert (await training_set(world.past(), [Span(0, 0, 160)], labels)).found == 1
    made = await training_set(world.past(), [Span(0, 0, 160)], labels, max_age_ms=60_000)
    assert made.found == 0


def test_labels_are_read_and_refused_by_line(tmp_path):
    """Times in both forms; a missing column and a row without a time are named."""
    file = tmp_path / "labels.csv"
    file.write_text("device_id,time,label\na,2026-11-21T10:00:00Z,1\nb,1500,0\n")
    rows = read_labels(file, entity="device_id", time="time")
    assert rows.entities == ["a", "b"]
    assert rows.times_ms.tolist() == [1_795_255_200_000, 1500]
    assert rows.columns == {"label": ["1", "0"]}

    with pytest.raises(SettingsError, match="no column 'entity'"):
        read_labels(file, entity="entity", time="time")
    file.write_text("device_id,time\na,2026-11-21T10:00:00\n")
    with pytest.raises(SettingsError, match="line 2 of labels"):
        read_labels(file, entity="device_id", time="time")
    with pytest.raises(SettingsError, match="name a CSV file"):
        read_labels(tmp_path / "none.csv", entity="device_id", time="time")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
async def test_the_file_has_the_label_the_place_and_the_features(world, tmp_path, suffix):
    """One row for each label; missing features are empty."""
    rows = served(world)
    labels = LabelRows([rows[-1][0], "nobody"], np.array([rows[-1][1], 5]), {"label": ["1", "0"]})
    made = await training_set(world.past(), [Span(0, 0, 160)], labels)
    table = features_export._table(made, labels, "device_id", "time")
    assert list(table) == [
        "device_id", "time", "label", "feature_time_ms", "feature_age_ms", "source", *made.names,
    ]  # fmt: skip
    file = tmp_path / f"training{suffix}"
    if suffix == ".csv":
        file.write_bytes(features_export._csv(table))
        assert file.read_text().splitlines()[2].startswith("nobody,5,0,0,-1,,,")
        return
    try:
        features_export._parquet(file, table, made, tmp_path / "press.toml")
    except MissingExtraError:
        without("pyarrow is not installed; install the extra `tables`")
    [back] = TableReader(file).batches(10)
    assert back["label"] == ["1", "0"]
    assert back["source"] == made.sources
    assert np.array(back["load_ewma"]).tobytes() == np.array(table["load_ewma"]).tobytes()
