"""The serve agent: predictions of the right bytes in the right place, nothing served twice."""

import msgspec
import numpy as np
import pytest
from fakes import onnx_models, serve_world
from fakes.serve_world import NO_SCORE, RAISES, Run, agent, block, records

from headrace.schemas.block import FeatureBlock, Labels
from headrace.schemas.errors import PoisonError, StoreUnavailableError
from headrace.schemas.prediction import Prediction
from headrace.schemas.topics import topics_of
from headrace.serving.model import Model
from headrace.serving.scorer import OnnxScorer


async def test_every_row_becomes_one_prediction_keyed_by_its_entity():
    """Topic, partition, key and content follow the source row."""
    run, one = Run(), block(5, offset=40)
    effects = await run.batch(one)
    (output,) = [o for o in effects.outputs if o.topic.endswith("predictions.v1")]
    found = [msgspec.json.decode(value, type=Prediction) for value in output.values]
    names = [one.entities.names[code] for code in one.entities.codes]

    assert output.partition == 1
    assert output.keys == [name.encode() for name in names]
    assert [p.device_id for p in found] == names
    assert [p.event_id for p in found] == [f"e{40 + i}" for i in range(5)]
    assert [p.source for p in found] == [f"{serve_world.TELEMETRY}[1]@{40 + i}" for i in range(5)]
    expected = 1 / (1 + np.exp(-one.features.sum(1)))
    assert [p.score for p in found] == pytest.approx(expected.tolist(), abs=1e-6)
    assert [p.label for p in found] == ["anomaly" if s >= 0.5 else "normal" for s in expected]
    assert {p.times_ms.served for p in found} == {round(serve_world.NOW_S * 1000)}
    assert {p.feature_age_ms for p in found} == {12}
    assert effects.counts == {"in": 5, "out": 5, "dead": 0, "late": 0, "repeated": 0}


async def test_blocks_of_a_batch_are_scored_in_one_call():
    """However many blocks a batch holds, the model is asked once."""
    scorer = serve_world.SumScorer()
    run = Run(agent(scorer=scorer))
    await run.batch(block(3), block(4, offset=3), block(5, offset=7))

    assert scorer.calls == [12]
    assert [p["event_id"] for p in run.predictions()] == [f"e{i}" for i in range(12)]


async def test_inputs_are_arranged_in_the_models_order():
    """Columns are found by name: a block may carry them in another order, and more of them."""
    spec = serve_world.pipeline(model={"inputs": ["heat", "load"]})
    seen = []

    class Spy(serve_world.SumScorer):
        async def score(self, features):
            seen.append(features.copy())
            return await super().score(features)

    features = np.array([[1.0, 2.0, 3.0]])
    one = block(1, columns=("load", "more", "heat"), features=features)
    await Run(agent(spec, Spy())).batch(one, block(1, offset=1, features=np.array([[5.0, 6.0]])))

    assert seen[0].tolist() == [[3.0, 1.0], [6.0, 5.0]]


async def test_rows_served_before_are_dropped():
    """Blocks cut anew after a restart overlap: each row is served once."""
    run = Run()
    await run.batch(block(10))
    again = await run.batch(block(10).slice(4, 10), block(10), block(5, offset=10))

    assert again.counts == {"in": 21, "out": 5, "dead": 0, "late": 0, "repeated": 16}
    assert [p["event_id"] for p in run.predictions()] == [f"e{i}" for i in range(15)]


async def test_sources_are_remembered_apart():
    """The same offsets of another telemetry topic are other rows."""
    run = Run()
    await run.batch(block(3), block(3, topic="other"))

    assert len(run.predictions()) == 6
    assert [mark.offset for mark in run.state.served.values()] == [2, 2]


async def test_a_topic_made_anew_is_served_from_its_start():
    """Lower offsets of a later broker time are another log; a repeat within either is none."""
    run, later = Run(), np.arange(5) + 10**9
    await run.batch(block(10))
    again = await run.batch(block(10), *[block(3, log_times_ms=later[:3])] * 2)
    assert again.counts == {"in": 16, "out": 3, "dead": 0, "late": 0, "repeated": 13}

    last = await run.batch(block(5, log_times_ms=later))
    assert last.counts["out"] == 2


async def test_nothing_changes_before_fold():
    """A batch that is not folded leaves the state as it was, so it can be repeated."""
    run = Run()
    before = dict(run.state.dump())
    first = await run.agent.process(run.state, records(block(20)), rebuilt=False)

    assert dict(run.state.dump()) == before
    again = await run.agent.process(run.state, records(block(20)), rebuilt=False)
    assert [o.values for o in again.outputs] == [o.values for o in first.outputs]


async def test_features_of_a_truncated_history_are_flagged():
    """The flag is the block's own, and ends with it."""
    run = Run()
    await run.batch(block(2), block(2, offset=2, rebuilt=True), block(2, offset=4))

    assert [p["flags"] for p in run.predictions()] == [[], [], ["rebuilt"], ["rebuilt"], [], []]


HEADER_ONLY = b'HRB1\x0d\0\0\0{"layout":{}}'


@pytest.mark.parametrize("bad", [b"", b"no block", b"HRB1\xff\xff\xff\xff", HEADER_ONLY, None])
async def test_what_is_no_block_is_poison(bad):
    """The runner halves the batch and dead-letters the record under this code."""
    with pytest.raises(PoisonError) as raised:
        await Run().batch(block(2), bad)

    assert raised.value.code == "block.invalid"
    assert str(raised.value.source) == "headrace.press.features.v1[1]@1"


async def test_a_block_without_the_models_columns_is_poison():
    """A block of another pipeline file says so instead of being scored by position."""
    with pytest.raises(PoisonError) as raised:
        await Run().batch(block(2, columns=("load", "other")))

    assert raised.value.code == "block.columns"


async def test_dead_keeps_the_bytes_and_changes_nothing():
    """A record that is no block goes to the dead letter as it was read."""
    run = Run()
    effects = run.agent.dead(records(b"no block", offset=8), 0, "block.invalid", run.state)
    (output,) = effects.outputs
    headers = dict(output.headers[0])

    assert (output.topic, output.partition) == (
        topics_of(serve_world.pipeline()).deadletter.name,
        1,
    )
    assert output.values == [b"no block"]
    assert headers["code"] == b"block.invalid"
    assert headers["source"] == b"headrace.press.features.v1[1]@8"
    assert not list(effects.delta.changed())


@pytest.mark.parametrize(
    "again", [[(0, 6)], [(0, 2), (2, 6)], [(0, 1), (1, 5), (5, 6)], [(0, 6), (6, 9)], [(0, 9)]]
)
async def test_a_block_that_comes_again_after_an_abort_is_dead_once(again):
    """Cut anew, with rows behind it or without: each row is in one dead letter."""
    columns = {"columns": ("load", "other")}
    whole = block(9, **columns)
    run, letters = Run(), []
    for offset, (first, stop) in enumerate([(0, 6), *again]):
        read = records(whole.slice(first, stop), offset=offset)
        try:
            effects = await run.agent.process(run.state, read, rebuilt=False)
        except PoisonError as error:
            effects = run.agent.dead(read, 0, error.code, run.state)
            letters += effects.outputs[0].values
        await run.take(effects)

    dead = [FeatureBlock.decode(value) for value in letters]
    rows = [row for letter in dead for row in letter.offsets.tolist()]
    assert rows == list(range(again[-1][1]))
    assert [i for b in dead for i in b.event_ids] == whole.event_ids[: len(rows)]


@pytest.mark.parametrize("value", [RAISES, NO_SCORE])
@pytest.mark.parametrize("bad", [{0}, {6}, {2, 3}, set(range(7))])
async def test_rows_the_model_refuses_are_dead_and_their_neighbours_are_served(value, bad):
    """Each refused row is a one-row block in the dead letter; nothing else is touched."""
    one = block(7, offset=100)
    one.features = one.features.copy()
    one.features[sorted(bad), 0] = value
    run = Run()
    effects = await run.batch(block(2, offset=98), one)

    served = [p["source"].rpartition("@")[2] for p in run.predictions()]
    assert served == [str(o) for o in [98, 99, *(100 + i for i in range(7) if i not in bad)]]
    dead = [
        FeatureBlock.decode(v) for o in effects.outputs if "deadletter" in o.topic for v in o.values
    ]
    assert [b.offsets.tolist() for b in dead] == [[100 + i] for i in sorted(bad)]
    assert [b.event_ids for b in dead] == [[f"e{100 + i}".encode()] for i in sorted(bad)]
    (output,) = [o for o in effects.outputs if "deadletter" in o.topic]
    assert {dict(h)["code"] for h in output.headers} == {b"model.failed"}
    assert dict(output.headers[0])["source"].decode() == (
        f"{serve_world.TELEMETRY}[1]@{100 + min(bad)}"
    )
    assert output.keys == [b.entities.names[0].encode() for b in dead]
    assert effects.counts["in"] == effects.counts["out"] + effects.counts["dead"]


async def test_the_scores_of_neighbours_do_not_change_when_rows_are_refused():
    """Splitting a batch to find a bad row leaves the bits of every other row as they were."""
    clean, marked = block(50), block(50)
    marked.features = marked.features.copy()
    marked.features[[7, 31], 1] = RAISES
    one, two = Run(), Run()
    await one.batch(clean)
    await two.batch(marked)

    expected = [v for i, v in enumerate(one.values("predictions")) if i not in (7, 31)]
    assert two.values("predictions") == expected


async def test_a_dependency_that_is_away_is_no_verdict_on_rows():
    """A retryable error is passed on, not bisected."""

    class Away(serve_world.SumScorer):
        async def score(self, features):
            self.calls.append(len(features))
            raise StoreUnavailableError("the store is away")

    scorer = Away()
    with pytest.raises(StoreUnavailableError):
        await Run(agent(scorer=scorer)).batch(block(8))
    assert scorer.calls == [8]


async def test_state_survives_a_checkpoint():
    """What the delta wrote field by field is what the whole state dumps, and loads back."""
    run = Run()
    for at in range(0, 120, 30):
        await run.batch(block(30, offset=at))
    assert run.store == dict(run.state.dump())

    other = Run()
    fields = list(run.store.items())
    other.state.load(reversed(fields))
    assert dict(other.state.dump()) == run.store
    effects = await other.batch(block(120))
    assert effects.counts["repeated"] == 120


async def test_with_the_real_scorer(tmp_path):
    """Blocks through ONNX Runtime: a row the model raises on is dead, the others are served."""
    spec = onnx_models.pipeline(2)
    scorer = OnnxScorer(Model(onnx_models.looks_up(2), spec), spec)
    features = np.zeros((6, 2))
    features[:, 0] = [0, 1, 2, 500, 4, 5]
    made = block(6, features=features, columns=("m0", "m1"))
    effects = await agent(spec, scorer).process(
        agent(spec).new_state("f", 1), records(made), rebuilt=False
    )
    await scorer.close()

    assert (effects.counts["out"], effects.counts["dead"]) == (5, 1)


async def test_a_device_name_of_any_letters_is_quoted():
    """Keys are the entity's bytes, JSON holds its escaped form."""
    name = 'a"b\\c,"é'
    run = Run()
    effects = await run.batch(block(1, entities=Labels.encode([name])))

    assert run.predictions()[0]["device_id"] == name
    assert effects.outputs[0].keys == [name.encode()]


def test_layout_follows_what_the_state_is_made_of():
    """Another window length is another state; another model is not."""
    same = agent(serve_world.pipeline(model={"version": 2})).layout
    other = agent(serve_world.pipeline(summary={"window_s": 20.0})).layout

    assert agent().layout == same != other
