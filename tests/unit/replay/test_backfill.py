"""New features beside the live ones: a takeover finds the state of a run by the new file."""

from __future__ import annotations

import pytest
from fakes.replay_world import NOW_S, World, spec

from headrace.feature_store.memory import MemoryStore
from headrace.schemas.errors import SettingsError
from headrace.schemas.numerics import numerics_fingerprint
from headrace.streams.agents.enrich import enrich_agent
from headrace.streams.delivery.recovery import Recovery
from headrace.streams.replay.backfill import backfill, new_views
from headrace.streams.replay.history import ReplayedStage
from headrace.streams.replay.ranges import Span

NEW = {"v": {"version": 2, "features": [{"op": "ewma", "metrics": ["*"], "alpha": 0.4}]}}


@pytest.fixture
async def world(tmp_path):
    """One life by the live file; then the new one."""
    made = World(tmp_path, seed=8)
    made.send(150)
    await made.live()
    made.pipeline = spec(views=NEW)
    return made


async def plain(world):
    """The state of an agent that has read everything by the new file."""
    agent = enrich_agent(world.pipeline, world.topics, world.folder, numerics_fingerprint())
    state = agent.new_state(world.source, 0)
    await world._fold(agent, state, 0, len(world.logs.log(world.source, 0).values), False, 0)
    return agent, state


async def found_by_a_takeover(world, agent, upto):
    """The fields of the snapshot that a takeover at `upto` would begin with."""
    stage = ReplayedStage(agent, 1, world.logs, world.snapshots)
    end = len(world.logs.log(world.source, 0).values)
    snapshot = await Recovery(stage, world.source, 0, begin=0, end=end).nearest(-1, upto)
    return None if snapshot is None else (snapshot.meta, sorted(snapshot.fields))


async def test_a_takeover_finds_the_state_of_the_new_features(world):
    """To the byte; and rows of the new version stand beside the live ones."""
    store = MemoryStore(now=lambda: NOW_S)
    live = await store.read_rows("v", ["d0"], width=5, ttl_s=1e9, now_ms=0)
    filled = await backfill(
        world.past(), store, world.snapshots, [Span(0, 0, 150)], new_views(spec(), world.pipeline)
    )
    agent, state = await plain(world)

    assert [(one.position, one.begun.how) for one in filled] == [(150, "beginning")]
    meta, fields = await found_by_a_takeover(world, agent, 150)
    assert (meta.position, meta.rebuilt, meta.layout) == (150, False, agent.layout)
    loaded = agent.new_state(world.source, 0)
    loaded.load(fields)
    assert sorted(loaded.dump()) == sorted(state.dump())
    [rows] = state.online()
    assert rows.view == "v@2"
    now_ms = int(rows.event_times_ms.max())
    told = await store.read_rows("v@2", rows.entities, width=2, ttl_s=1e9, now_ms=now_ms)
    assert told.found.all()
    assert told.values.tobytes() == rows.values.tobytes()
    assert not live.found.any()


async def test_a_backfill_that_was_killed_goes_on(world):
    """From its last snapshot; and the live stage's own do not push that out."""
    store = MemoryStore(now=lambda: NOW_S)
    views = new_views(spec(), world.pipeline)
    await backfill(world.past(), store, world.snapshots, [Span(0, 0, 90)], views, every=30)
    for _ in range(60):
        world._snapshot()
    [again] = await backfill(world.past(), store, world.snapshots, [Span(0, 0, 150)], views)

    assert (again.begun.how, again.begun.position, again.position) == ("snapshot", 90, 150)
    agent, state = await plain(world)
    _, fields = await found_by_a_takeover(world, agent, 150)
    loaded = agent.new_state(world.source, 0)
    loaded.load(fields)
    assert sorted(loaded.dump()) == sorted(state.dump())


def test_rows_would_never_go_among_the_live_ones(world):
    """Other features under the same version, another input or another name are refused."""
    same = {"v": {"features": NEW["v"]["features"]}}
    with pytest.raises(SettingsError, match="raise its version"):
        new_views(spec(), spec(views=same))
    with pytest.raises(SettingsError, match="same name"):
        new_views(spec(), spec(name="other"))
    with pytest.raises(SettingsError, match="change the views only"):
        new_views(spec(), spec(input={"allowed_lateness_s": 9.0}))
    assert new_views(spec(), spec()) == []
