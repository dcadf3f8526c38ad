"""The enrich agent: every record leaves as exactly one thing, on the right topic and partition."""

from __future__ import annotations

import json

import pytest
from fakes import enrich_world as world

from headrace.enrichers.enricher import Enricher
from headrace.enrichers.registry import Registry
from headrace.schemas.block import FeatureBlock
from headrace.schemas.input import Attribute, Metric
from headrace.schemas.pipeline import Pipeline, Summary
from headrace.schemas.protocols import Agent, Effects, Output, PartitionState
from headrace.schemas.topics import BLOCK_LIMIT_BYTES, topics_of
from headrace.streams.agents.enrich import EnrichAgent

PIPELINE = Pipeline(
    name="press",
    input=world.pipeline(
        metrics={"load": Metric(), "heat": Metric(required=False)},
        attributes={"site": Attribute(values=("north",))},
    ).input,
    views=world.every_op(),
    model=world.pipeline().model,
    summary=Summary(metrics=("heat",)),
)
TOPICS = topics_of(PIPELINE)


def agent() -> EnrichAgent:
    """An agent with a registry of one device."""
    registry = Registry({"line": {"d0": "a"}})
    return EnrichAgent(PIPELINE, TOPICS, registry=registry, numerics="feedbeef")


def value(name: str, seconds: float, device: str = "d0", **fields: object) -> bytes:
    """A record with attributes."""
    found = json.loads(world.event(name, device, world.START_MS + round(seconds * 1000), load=1.5))
    return json.dumps({**found, **fields}).encode()


def by_topic(effects: Effects) -> dict[str, Output]:
    """Outputs by topic; each topic at most once."""
    found = {output.topic: output for output in effects.outputs}
    assert len(found) == len(effects.outputs)
    return found


async def test_each_record_becomes_one_thing() -> None:
    """Good, repeated, late and dead records leave as a block row, nothing, and original bytes."""
    subject: Agent = agent()
    state = subject.new_state("telemetry", 2)
    values = [
        value("a", 60, site="north"),
        value("a", 60),
        value("b", 0, device="d1"),
        b"{broken",
        None,
        value("c", 61, device="d2", site="west"),
    ]
    keys = [b"k%d" % n for n in range(6)]
    effects = await subject.process(state, world.batch(values, first=10, keys=keys), rebuilt=True)
    outputs = by_topic(effects)

    assert effects.counts == {"in": 6, "out": 2, "dead": 2, "late": 1, "repeated": 1}
    assert {output.partition for output in effects.outputs} == {2}
    block = FeatureBlock.decode(outputs[TOPICS.features.name].values[0])
    assert (block.offsets.tolist(), block.event_ids) == ([10, 15], [b"a", b"c"])
    assert (block.entities.names, block.rebuilt, block.numerics) == (["d0", "d2"], True, "feedbeef")
    assert block.columns == tuple(c.name for c in PIPELINE.columns())
    assert (block.metric_names, block.metrics.shape) == (("heat",), (2, 1))
    labels = {n: [a.names[c] for c in a.codes.tolist()] for n, a in block.attributes.items()}
    assert labels == {"site": ["north", "other"], "line": ["a", "other"]}
    late = outputs[TOPICS.late.name]
    assert (late.keys, late.values) == ([b"d1"], [values[2]])
    dead = outputs[TOPICS.deadletter.name]
    assert (dead.keys, dead.values) == ([b"k3", b"k4"], [b"{broken", b""])
    assert dead.headers is not None
    first = dict(dead.headers[0])
    assert (first["code"], first["source"]) == (b"json.invalid", b"telemetry[2]@13")
    assert first["stage"] == b"enrich"
    assert dict(dead.headers[1])["code"] == b"record.empty"


async def test_online_rows_are_of_touched_entities_only() -> None:
    """Online rows hold the newest row of each entity of the batch, in every view."""
    subject = agent()
    state = subject.new_state("telemetry", 2)
    first = await subject.process(
        state,
        world.batch([value("a", 1), value("b", 2), value("c", 1, device="d1")]),
        rebuilt=False,
    )
    first.delta.fold()
    second = await subject.process(
        state, world.batch([value("d", 0), value("e", 3, device="d1")], first=3), rebuilt=False
    )

    assert [rows.view for rows in first.online] == ["now", "lately"]
    assert first.online[0].entities == ["d0", "d1"]
    assert first.online[0].offsets.tolist() == [1, 2]
    assert second.online[0].entities == ["d1"]


async def test_original_headers_stay_with_the_record() -> None:
    """A dead or late record keeps its own headers, which may be half of the event."""
    subject = agent()
    state = subject.new_state("telemetry", 2)
    own = [("ce_id", b"7")]
    records = world.batch([b"{", value("a", 60), value("b", 0)], headers=[own, (), own])
    outputs = by_topic(await subject.process(state, records, rebuilt=False))

    dead, late = outputs[TOPICS.deadletter.name], outputs[TOPICS.late.name]
    assert dead.headers is not None
    assert dead.headers[0][0] == ("ce_id", b"7")
    assert dict(dead.headers[0])["code"] == b"json.invalid"
    assert late.headers is not None
    assert late.headers[0][0] == ("ce_id", b"7")
    assert dict(late.headers[0])["code"] == b"time.late"
    assert dict(late.headers[0])["source"] == b"telemetry[2]@2"


async def test_large_batches_are_split() -> None:
    """Blocks stay below their limit and together hold every row once."""
    subject = agent()
    state = subject.new_state("telemetry", 2)
    values = [value(f"event-{n}", n * 0.001, device=f"d{n % 50}") for n in range(3000)]
    effects = await subject.process(state, world.batch(values), rebuilt=False)
    (output,) = effects.outputs
    blocks = [FeatureBlock.decode(v) for v in output.values]

    assert len(blocks) > 1
    assert max(map(len, output.values)) <= BLOCK_LIMIT_BYTES
    assert [o for b in blocks for o in b.offsets.tolist()] == list(range(3000))


async def test_dead_changes_nothing_but_the_dead_letter() -> None:
    """`dead` of one record leaves one dead letter and no change of state."""
    subject = agent()
    state = subject.new_state("telemetry", 2)
    records = world.batch([value("a", 1), value("b", 2)], first=5)
    effects = subject.dead(records, 1, "record.failed", state)
    (output,) = effects.outputs
    assert output.headers is not None

    assert (output.topic, output.values) == (TOPICS.deadletter.name, [records.values[1]])
    assert dict(output.headers[0])["source"] == b"telemetry[2]@6"
    assert (list(effects.delta.changed()), list(effects.delta.dropped())) == ([], [])
    before = list(state.dump())
    effects.delta.fold()
    assert list(state.dump()) == before
    assert effects.counts == {"in": 1, "out": 0, "dead": 1, "late": 0, "repeated": 0}


async def test_effects_print_no_content() -> None:
    """A delta that is logged by mistake shows no device, id or value."""
    subject = agent()
    state = subject.new_state("telemetry", 2)
    events = world.batch([value("secret", 1, device="press-hall-4")])
    effects = await subject.process(state, events, rebuilt=False)

    assert "secret" not in repr(effects.delta)
    assert "press-hall" not in repr(effects.delta)


async def test_another_agents_state_is_refused() -> None:
    """A state of another stage is an error at once."""

    class Foreign(PartitionState):
        pass

    with pytest.raises(TypeError, match="Foreign"):
        await agent().process(Foreign(), world.batch([value("a", 1)]), rebuilt=False)


def test_the_layout_is_the_enrichers() -> None:
    """The agent's layout digest is that of its rows, so a changed pipeline sets state aside."""
    assert agent().layout == Enricher(PIPELINE).features.layout.digest
