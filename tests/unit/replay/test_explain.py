"""A prediction is walked back and forward; what has expired is one line each."""

from __future__ import annotations

import msgspec
import pytest
from fakes.replay_world import World

from headrace.schemas.errors import SettingsError
from headrace.streams.cli import explain as command
from headrace.streams.cli import replay_reproduce
from headrace.streams.replay.explain import explain
from headrace.streams.replay.ranges import Span
from headrace.streams.replay.reproduce import reproduce


@pytest.fixture
async def world(tmp_path):
    """Long enough for a window to be released."""
    made = World(tmp_path, seed=5)
    made.send(150)
    await made.live()
    made.send(50)
    await made.live(repeat=10)
    return made


def prediction(world, at):
    """A prediction as it lies on its topic."""
    log = world.logs.log(world.topics.predictions.name, 0)
    return msgspec.json.decode(log.values[at])


async def test_back_to_the_event_and_forward_to_the_summary(world):
    """Its record, row, model, snapshot and the summary that counts it."""
    one = prediction(world, 5)
    found = await explain(one["id"], world.past())

    assert found.missing == []
    assert found.source == found.record.at == one["source"]
    assert found.prediction.score == one["score"]
    assert found.features.entity == one["device_id"]
    assert found.features.age_ms == one["feature_age_ms"]
    assert found.model_kept
    [summary] = found.summaries
    assert summary.window_start_ms <= one["times_ms"]["device"] < summary.window_end_ms
    late = await explain(prediction(world, 170)["id"], world.past())
    assert late.state is not None
    assert "-" in late.state
    told = "\n".join(command.lines(found))
    assert one["source"] in told
    assert "summary" in told


async def test_of_several_revisions_the_last_is_named(world):
    """Whatever came before it, or was released twice, is of the past."""
    one = prediction(world, 5)
    [first] = (await explain(one["id"], world.past())).summaries
    log = world.logs.log(world.topics.summaries.name, 0)
    [was] = [
        msgspec.json.decode(value)
        for at, value in enumerate(log.values)
        if first.at.endswith(f"@{at}")
    ]
    for rev, rows in ((2, was["rows"] + 2), (1, was["rows"] + 1), (0, was["rows"])):
        log.append(None, msgspec.json.encode({**was, "rev": rev, "rows": rows}), log.times[-1])

    found = await explain(one["id"], world.past())

    [last] = found.summaries
    assert (last.rev, last.rows) == (2, was["rows"] + 2)
    assert last.at == f"{world.topics.summaries.name}[0]@{len(log.values) - 3}"
    told = "\n".join(command.lines(found))
    assert "revision 2" in told
    assert "too late is in none" in told


async def test_what_has_expired_is_a_line_each(world):
    """Record, block and prediction gone: each is said, and the id still tells the source."""
    one = prediction(world, 5)
    for topic in (world.source, world.topics.features.name, world.topics.predictions.name):
        log = world.logs.log(topic, 0)
        log.begin = len(log.values) - 3
    found = await explain(one["id"], world.past(repository=None))

    assert found.source == one["source"]
    assert (found.record, found.features, found.prediction) == (None, None, None)
    assert len(found.missing) == 3
    assert "has expired" in found.missing[0]


async def test_an_id_of_something_else_is_refused(world):
    """No id, an id of another pipeline, and one beyond the log's end."""
    with pytest.raises(SettingsError, match="no prediction id"):
        await explain("0" * 32, world.past())
    with pytest.raises(SettingsError, match="no prediction id"):
        await explain("not an id", world.past())


async def test_the_verdict_in_words(world):
    """The count, each tally, a difference with both values, and what is missing."""
    world.change(world.topics.predictions.name, 3, label="other")
    log = world.logs.log(world.topics.predictions.name, 0)
    gone = msgspec.json.decode(log.values.pop(9))
    del log.keys[9], log.times[9]
    found = await reproduce(world.past(), [Span(0, 0, 1 << 40)])
    told = "\n".join(replay_reproduce.lines(found))

    assert told.startswith("not reproduced: 0 differing bits in 200 records")
    assert "label: recorded other, computed " in told
    assert f"{gone['source']}  not recorded, the first of 1" in told
    assert replay_reproduce.facts(found)["predictions"]["missing"] == 1
