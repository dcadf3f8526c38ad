"""What a fleet sends becomes what it says: ENRICH itself agrees with every fate."""

from __future__ import annotations

import itertools
import json

import pytest
from fakes.drill_pipeline import drill_pipeline
from fakes.enrich_world import batch, run
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.enrichers.decode import Decoder
from headrace.enrichers.enricher import Enricher
from headrace.streams.drill.load import Fleet, make_load

CONTRACTS = [
    {},
    {"id": ""},
    {"time_unit": "ms", "time": "at.ms"},
    {"time_unit": "s"},
    {"time_unit": "ns"},
    {"format": "cloudevents", "entity": "subject"},
    {"entity": "asset.serial", "metrics": {"zone_c": {"path": "a.b.c", "min": -5.0}}},
    {"attributes": {"line": {"values": ["a", "b"]}}, "key": "entity"},
    {"metrics": {"free": {}, "low": {"max": -3.5}, "point": {"min": 0.25, "max": 0.25}}},
]


FATES = {"out": "valid", "late": "late", "repeated": "repeat", "dead": "dead"}


@pytest.mark.parametrize("contract", CONTRACTS, ids=str)
def test_enrich_agrees_with_every_fate(contract) -> None:
    """Every record of every partition becomes what the load says, the dead under their codes."""
    pipeline = drill_pipeline(**contract)
    load = make_load(pipeline, 5, 4000)
    for rows in load.by_partition.values():
        records = batch([row.value for row in rows], keys=[row.device.encode() for row in rows])
        verdicts = run(Enricher(pipeline), records, []).verdicts

        assert [FATES[verdicts[n][0]] for n in range(len(rows))] == [row.fate for row in rows]
        dead = {n: row.code for n, row in enumerate(rows) if row.fate == "dead"}
        assert {n: verdicts[n][1] for n in dead} == dead


@pytest.mark.parametrize("mood", ["repeated", "reordered", "corrupted"])
@pytest.mark.parametrize("contract", CONTRACTS, ids=str)
def test_enrich_agrees_with_every_mood(mood, contract) -> None:
    """Whatever the devices are up to between two calm stretches, each record's fate is known."""
    pipeline = drill_pipeline(**contract)
    fleet = Fleet(pipeline, 6)
    for part in ("calm", mood, "calm"):
        fleet.take(1500, part)
    for rows in fleet.load.by_partition.values():
        records = batch([row.value for row in rows], keys=[row.device.encode() for row in rows])
        verdicts = run(Enricher(pipeline), records, []).verdicts

        assert [FATES[verdicts[n][0]] for n in range(len(rows))] == [row.fate for row in rows]
        dead = {n: row.code for n, row in enumerate(rows) if row.fate == "dead"}
        assert {n: verdicts[n][1] for n in dead} == dead


def test_moods_are_what_they_are_called() -> None:
    """Half of the events again, a quarter broken, times that go back: far more than when calm."""
    fleets = {mood: Fleet(drill_pipeline(), 7) for mood in ("repeated", "reordered", "corrupted")}
    for mood, fleet in fleets.items():
        fleet.take(2000, mood)
    fates = {mood: fleet.load.fates() for mood, fleet in fleets.items()}
    times = [row.at_ms for row in fleets["reordered"].load.rows if row.fate == "valid"]

    assert fates["repeated"]["repeat"] > 800
    assert 350 < fates["corrupted"]["dead"] < 650
    assert sum(after < before for before, after in itertools.pairwise(times)) > 500


def test_times_are_as_meant() -> None:
    """Every unit of time carries the event's own millisecond."""
    for unit in ("iso", "s", "ms", "us", "ns"):
        pipeline = drill_pipeline(time_unit=unit)
        rows = make_load(pipeline, 2, 500).by_partition[1]
        valid = [row for row in rows if row.fate == "valid"]
        decoded = Decoder(pipeline.input)(batch([row.value for row in valid]))
        assert decoded.events.event_times_ms.tolist() == [row.at_ms for row in valid]
        assert decoded.events.ids == [row.event for row in valid]


@given(st.integers(0, 2**32), st.lists(st.integers(0, 40), max_size=6))
@settings(max_examples=25, deadline=None)
def test_the_same_seed_gives_the_same_bytes(seed, cuts) -> None:
    """However the events are asked for."""
    pipeline = drill_pipeline()
    fleet = Fleet(pipeline, seed)
    for count in cuts:
        fleet.take(count)

    assert fleet.load.rows == make_load(pipeline, seed, sum(cuts)).rows


def test_every_fate_is_planted() -> None:
    """A load without bad events would test half of the path."""
    load = make_load(drill_pipeline(), 1, 3000)

    assert {"valid", "repeat", "late", "dead"} == load.fates().keys()
    assert {row.code for row in load.places("dead").values()} == {
        "json.invalid", "time.invalid", "metric.range",
    }  # fmt: skip
    assert all(json.loads(row.value) for row in load.places("valid").values())
