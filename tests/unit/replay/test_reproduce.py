"""What was served comes out again, bit for bit; one bit that does not is found and located."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from fakes.onnx_models import mlp
from fakes.replay_world import World, spec

from headrace.schemas.block import FeatureBlock
from headrace.serving.scorer import confidence_of
from headrace.streams.replay.against import Against
from headrace.streams.replay.held import KEPT_ROWS, Row
from headrace.streams.replay.ranges import Span
from headrace.streams.replay.reproduce import reproduce
from headrace.streams.replay.verdict import Verdict

EVERYTHING = [Span(0, 0, 1 << 40)]


@pytest.fixture
async def world(tmp_path):
    """Three lives, a repeated stretch and a change of the model between them."""
    made = World(tmp_path, seed=3)
    made.send(120)
    await made.live()
    made.model(2)
    made.send(150)
    await made.live(repeat=25)
    made.send(100)
    await made.live()
    return made


async def test_everything_that_was_served_comes_out_again(world):
    """Over restarts, repeats, other cuts and a model change: not one bit differs."""
    found = await reproduce(world.past(), EVERYTHING)

    assert found.reproduced, msgspec.to_builtins(found)
    assert found.differing_bits == 0
    assert len(found.models) == 2
    assert found.features.compared >= found.features.computed > 300
    assert found.predictions.compared >= found.predictions.computed == found.features.computed
    assert found.features.again > 0
    assert found.predictions.again > 0
    assert [b.how for b in found.partitions[0].begun] == ["beginning"]
    assert found.reservations() == []


@pytest.mark.parametrize(("start", "how"), [(0, "beginning"), (120, "snapshot"), (333, "snapshot")])
async def test_a_stretch_begins_with_the_nearest_snapshot(world, start, how):
    """Whatever part is asked for, the state before it is that of the live stage."""
    found = await reproduce(world.past(), [Span(0, start, 350)])

    assert found.reproduced, msgspec.to_builtins(found)
    assert [b.how for b in found.partitions[0].begun] == [how]
    assert found.partitions[0].records == 350 - start


async def test_one_planted_bit_of_a_feature_is_located(world):
    """Its record, its column and both values are named."""
    log = world.logs.log(world.topics.features.name, 0)
    block = FeatureBlock.decode(log.values[5])
    changed = block.features.copy()
    changed.view(np.int64)[1, 2] ^= 1
    was, now = float(block.features[1, 2]), float(changed[1, 2])
    offset = int(block.offsets[1])
    block.features = changed
    log.values[5] = block.encode()

    found = await reproduce(world.past(), EVERYTHING)

    assert not found.reproduced
    assert found.differing_bits == found.features.differences.values == 1
    [one] = found.features.differences.first
    assert one.source == f"{world.source}[0]@{offset}"
    assert (one.column, one.recorded, one.computed) == (block.columns[2], repr(now), repr(was))
    assert found.predictions.differences.values == 0


async def test_one_planted_bit_of_a_score_is_located(world):
    """The score is followed to the float32 it was."""
    topic = world.topics.predictions.name
    prediction = msgspec.json.decode(world.logs.log(topic, 0).values[40])
    moved = np.nextafter(np.float32(prediction["score"]), np.float32(2))
    world.change(topic, 40, score=float(str(moved)))

    found = await reproduce(world.past(), EVERYTHING)

    assert found.differing_bits >= 1
    [one] = found.predictions.differences.first
    assert one.source == prediction["source"]
    assert one.column == "score"
    assert one.recorded == str(moved)


async def test_what_was_not_recorded_is_missing_or_pending(world):
    """A gap is missing, an end is not served yet; both are counted and only one is wrong."""
    for topic in (world.topics.predictions.name, world.topics.features.name):
        log = world.logs.log(topic, 0)
        del log.values[-1:], log.keys[-1:], log.times[-1:]
    found = await reproduce(world.past(), EVERYTHING)
    assert found.reproduced
    assert found.features.pending > 0
    assert any("not served yet" in line for line in found.reservations())

    log = world.logs.log(world.topics.predictions.name, 0)
    gone = msgspec.json.decode(log.values.pop(7))
    del log.keys[7], log.times[7]
    found = await reproduce(world.past(), EVERYTHING)
    assert not found.reproduced
    assert (found.predictions.missing, found.predictions.first_missing) == (1, gone["source"])


def cut(log, stay):
    """Keep only records of which this is so."""
    kept = [at for at, value in enumerate(log.values) if stay(at, value)]
    for column in ("keys", "times", "values"):
        setattr(log, column, [getattr(log, column)[at] for at in kept])


def offset_of(value):
    """Source offset of a prediction."""
    return int(msgspec.json.decode(value)["source"].rpartition("@")[2])


@pytest.mark.parametrize("kept_rows", [KEPT_ROWS, 8])
async def test_predictions_lost_at_the_end_of_a_range_are_missing(world, monkeypatch, kept_rows):
    """Later ones were served, however far behind: those of the range are not still to come."""
    monkeypatch.setattr("headrace.streams.replay.held.KEPT_ROWS", kept_rows)
    monkeypatch.setattr("headrace.streams.replay.reproduce.KEPT_ROWS", kept_rows)
    lost = range(150, 200)
    log = world.logs.log(world.topics.predictions.name, 0)
    gone = {offset_of(value) for value in log.values} & set(lost)
    cut(log, lambda at, value: offset_of(value) not in lost)

    found = await reproduce(world.past(), [Span(0, 130, 200)])

    assert not found.reproduced
    assert (found.predictions.missing, found.predictions.pending) == (len(gone), 0)
    assert found.predictions.first_missing == f"{world.source}[0]@{min(gone)}"
    assert (found.features.missing, found.features.pending) == (0, 0)


async def test_feature_blocks_lost_at_the_end_of_a_range_are_missing(world):
    """As of predictions."""
    log = world.logs.log(world.topics.features.name, 0)
    first = next(
        int(block.offsets[0])
        for block in map(FeatureBlock.decode, log.values)
        if block.offsets[0] >= 150
    )
    cut(log, lambda at, value: not first <= FeatureBlock.decode(value).offsets[0] < 200)

    found = await reproduce(world.past(), [Span(0, 100, 200)])

    assert not found.reproduced
    assert found.features.missing > 0
    assert found.features.pending == 0


async def test_predictions_of_which_all_expired_are_not_reproduced(world):
    """Nothing to compare is no success."""
    log = world.logs.log(world.topics.predictions.name, 0)
    log.begin = len(log.values)

    found = await reproduce(world.past(), EVERYTHING)

    assert found.features.compared > 0
    assert found.predictions.compared == 0
    assert not found.reproduced


async def test_what_came_again_too_far_behind_is_not_reproduced(world, monkeypatch):
    """It could not be compared, and that is said."""
    monkeypatch.setattr("headrace.streams.replay.held.KEPT_ROWS", 8)
    log = world.logs.log(world.topics.predictions.name, 0)
    log.append(log.keys[0], log.values[0], log.times[-1])

    found = await reproduce(world.past(), EVERYTHING)

    assert found.predictions.uncompared > 0
    assert not found.reproduced
    assert any("too far behind" in line for line in found.reservations())


@pytest.mark.parametrize("lost", [range(1), range(20, 60)])
async def test_what_was_let_go_unmet_is_missing(world, monkeypatch, lost):
    """One event, the first of the log, or many: what is held no longer was not met either."""
    monkeypatch.setattr("headrace.streams.replay.held.KEPT_ROWS", 32)
    log = world.logs.log(world.topics.predictions.name, 0)
    gone = {offset_of(value) for value in log.values} & set(lost)
    cut(log, lambda at, value: offset_of(value) not in lost)

    found = await reproduce(world.past(), [Span(0, 0, 120)])

    assert gone
    assert not found.reproduced
    assert found.predictions.missing == len(gone)


async def test_all_is_met_only_where_nothing_was_let_go_unmet(world):
    """An offset of 0 counts as any other, and so do many."""
    past = world.past()
    for offsets in ([0], [0, 1], [7]):
        against = Against(past.definitions, Verdict(pipeline="press", topic="t"), EVERYTHING[0])
        assert against.complete
        block = FeatureBlock.decode(world.logs.log(world.topics.features.name, 0).values[0])
        block = block.slice(0, len(offsets))
        block.offsets = np.array(offsets, np.int64)
        met = np.ones(len(offsets), np.bool_)
        await against.let_go([Row(block, ~met, met)])
        assert not against.complete


async def test_a_tolerance_of_scores_hides_no_wrong_label(world):
    """A score that another batch made a little different does not excuse its event."""
    world.pipeline = spec(model={"file": "model.onnx", "batch_tolerance": 1e-3})
    topic, log = world.topics.predictions.name, world.logs.log(world.topics.predictions.name, 0)
    first = len(log.values)
    world.send(30)
    await world.live()
    score = np.array([msgspec.json.decode(log.values[first])["score"]], np.float32) + 4e-4
    other = {"score": score[0].item(), "confidence": confidence_of(score, 0.5)[0].item()}
    other = {name: float(str(np.float32(value))) for name, value in other.items()}

    world.change(topic, first, **other)
    found = await reproduce(world.past(), EVERYTHING)
    assert found.reproduced, msgspec.to_builtins(found)
    assert found.tolerated == 1

    world.change(topic, first, label="other")
    found = await reproduce(world.past(), EVERYTHING)
    assert not found.reproduced
    assert found.predictions.differences.columns == {"label": 1}


async def test_a_prediction_of_no_event_is_unexpected(world):
    """A row of an event that gives none is named."""
    topic = world.topics.predictions.name
    log = world.logs.log(world.source, 0)
    dead = next(at for at, value in enumerate(log.values) if value == b"{broken")
    world.change(topic, 0, source=f"{world.source}[0]@{dead}")

    found = await reproduce(world.past(), EVERYTHING)

    assert found.predictions.unexpected == 1
    assert found.predictions.first_unexpected == f"{world.source}[0]@{dead}"
    assert found.predictions.missing == 1


async def test_a_model_that_is_kept_nowhere_is_said(world, tmp_path):
    """Its predictions are counted and not compared; with its file they are."""
    found = await reproduce(world.past(repository=None), EVERYTHING)
    assert not found.reproduced
    assert sum(found.unknown_models.values()) > 0
    assert any("--model" in line for line in found.reservations())

    old = tmp_path / "old.onnx"
    old.write_bytes(mlp(len(world.pipeline.model_inputs), seed=1))
    found = await reproduce(world.past(repository=None, models=[old]), EVERYTHING)
    assert found.reproduced, msgspec.to_builtins(found)


async def test_a_threshold_that_was_changed_is_followed(world):
    """One model under two pipeline files: each answer is by one of them."""
    threshold = {"file": "model.onnx", "outputs": {"threshold": 0.43}}
    world.pipeline = spec(model=threshold)
    world.send(80)
    await world.live()

    found = await reproduce(world.past(), EVERYTHING)

    assert found.reproduced, msgspec.to_builtins(found)
    assert len({one.digest for one in await world.past().definitions.served()}) == 2


async def test_features_that_were_changed_are_followed(world):
    """From the first block of the new file on, features are computed by it."""
    views = {"v": {"features": [{"op": "ewma", "metrics": ["*"], "alpha": 0.4}]}}
    world.pipeline = spec(views=views)
    world.model(5)
    world.send(80)
    await world.live()

    found = await reproduce(world.past(), EVERYTHING)

    assert found.reproduced, msgspec.to_builtins(found)
    assert len(found.partitions[0].begun) == 2
    assert len(found.models) == 3


@pytest.mark.timeout(60)  # it went round for ever
async def test_a_row_that_came_again_by_other_features_is_compared(world):
    """Behind the stretch, and while a prediction of it is missing; nothing else is missing."""
    views = {"v": {"features": [{"op": "ewma", "metrics": ["*"], "alpha": 0.4}]}}
    world.pipeline = spec(views=views)
    world.model(5)
    world.send(80)
    await world.live()
    log = world.logs.log(world.topics.features.name, 0)
    blocks = [FeatureBlock.decode(value) for value in log.values]
    again = next(b for b in blocks if b.offsets[0] >= 100)
    again.pipeline_digest = blocks[-1].pipeline_digest
    log.append(log.keys[-1], again.encode(), log.times[-1])
    predictions = world.logs.log(world.topics.predictions.name, 0)
    cut(predictions, lambda at, value: offset_of(value) != again.offsets[0])

    found = await reproduce(world.past(), [Span(0, 0, 200)])

    assert len(found.partitions[0].begun) == 2
    assert found.features.differences.values > 0
    assert (found.features.missing, found.predictions.missing) == (0, 1)


async def test_a_truncated_history_is_said(world):
    """Without a snapshot and with an expired log, the warm-up is named."""
    world.logs.log(world.source, 0).begin = 50
    world.logs.log(world.topics.features.name, 0).begin = 1
    found = await reproduce(world.past(snapshots=None), [Span(0, 20, 370)])
    assert found.expired == 30
    [begun] = found.partitions[0].begun
    assert (begun.how, begun.complete) == ("expired", False)
    assert any("warm-up" in line for line in found.reservations())

    found = await reproduce(world.past(warm_up=40), [Span(0, 300, 370)])
    [begun] = found.partitions[0].begun
    assert (begun.how, begun.position) == ("warm-up", 260)


async def test_rows_that_were_flagged_rebuilt_are_not_held_against_us(world):
    """They say themselves that their history was truncated."""
    log = world.logs.log(world.topics.features.name, 0)
    block = FeatureBlock.decode(log.values[3])
    block.rebuilt, block.features = True, block.features + 1.0
    log.values[3] = block.encode()

    found = await reproduce(world.past(), EVERYTHING)

    assert found.rebuilt == len(block)
    assert found.features.differences.values == 0
    assert any("truncated history" in line for line in found.reservations())


async def test_nothing_is_written(world):
    """The topics are what they were."""
    before = {key: list(log.values) for key, log in world.logs.logs.items()}
    await reproduce(world.past(), EVERYTHING)
    assert {key: list(log.values) for key, log in world.logs.logs.items()} == before


async def test_a_model_served_elsewhere_is_said(world):
    """Scores of another CPU or other packages are compared, and the answer says so."""
    content = (world.folder / "model.onnx").read_bytes()
    world.repository.keep(world.pipeline, content, None, numerics="f" * 16)

    found = await reproduce(world.past(), EVERYTHING)

    assert found.reproduced
    assert [line for line in found.reservations() if "f" * 16 in line]
