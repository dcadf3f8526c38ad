"""The intake stage: every record to the partition of its entity, traced to where it came in."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import enrich_world as world

from headrace.schemas.batch import RecordBatch
from headrace.schemas.errors import PipelineFileError, SettingsError
from headrace.schemas.input import Input, Metric
from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.schemas.protocols import Effects, Output
from headrace.schemas.rekeyed import ORIGIN
from headrace.schemas.settings import load_settings
from headrace.schemas.topics import topics_of
from headrace.streams.agents.enrich import EnrichAgent
from headrace.streams.agents.intake import IntakeAgent
from headrace.streams.client.partition import Partitioner
from headrace.streams.sites.assembly import Site
from headrace.streams.workers.jobs import ALL_STAGES, STAGES

PIPELINE: Pipeline = world.pipeline(rekey=True, id=None)
TOPICS = topics_of(PIPELINE)
LOG_MS = world.START_MS + 100_000


def telemetry(count: int, **columns: object) -> RecordBatch:
    """Events of five devices, in turn, without ids."""
    values = [
        world.event("", f"d{n % 5}", world.START_MS + 10 * n, load=n / 7) for n in range(count)
    ]
    return world.batch(values, first=100, log_times=[LOG_MS] * count, **columns)


async def intake(records: RecordBatch) -> Effects:
    """What the stage does."""
    agent = IntakeAgent(PIPELINE, TOPICS)
    return await agent.process(agent.new_state("t", 0), records, rebuilt=False)


def as_read(output: Output, first: int = 0) -> RecordBatch:
    """What ENRICH reads of it."""
    count = len(output.values)
    made = world.batch(
        list(output.values), first=first, log_times=[LOG_MS] * count, keys=list(output.keys or ()),
        headers=list(output.headers or ()),
    )  # fmt: skip
    return replace(made, topic=output.topic, partition=output.partition)


async def enriched(*batches: RecordBatch) -> Counter[str]:
    """ENRICH's counts over batches of one partition."""
    agent = EnrichAgent(PIPELINE, TOPICS, numerics="n")
    state, counts = agent.new_state("t", 0), Counter[str]()
    for records in batches:
        effects = await agent.process(state, records, rebuilt=False)
        effects.delta.fold()
        counts.update(effects.counts)
    return counts


async def test_each_record_goes_to_its_entity() -> None:
    """Key, partition and order are the entity's; bytes stay; the header says where it came in."""
    records = telemetry(40, keys=[None, b"someone", b"\xff"] * 13 + [b"d4"])
    effects = await intake(records)

    assert effects.counts == {"in": 40, "out": 40, "dead": 0}
    seen: list[tuple[int, bytes | None]] = []
    for output in effects.outputs:
        assert output.topic == "headrace.press.keyed.v1"
        assert output.headers is not None
        assert output.keys is not None
        for key, value, headers in zip(output.keys, output.values, output.headers, strict=True):
            assert output.partition == Partitioner(4).of(key)
            offset = int((dict(headers)[ORIGIN] or b"").rpartition(b"@")[2])
            assert value == records.values[offset - 100]
            assert key == b"d%d" % ((offset - 100) % 5)
            seen.append((offset, key))
    for device in {key for _, key in seen}:
        offsets = [offset for offset, key in seen if key == device]
        assert offsets == sorted(offsets)
    assert sorted(offset for offset, _ in seen) == list(range(100, 140))


async def test_what_is_no_event_is_dead_here() -> None:
    """With its key and headers as read, and with coordinates that no producer can forge."""
    forged = [(ORIGIN, b"other[0]@1"), ("mine", None)]
    records = world.batch([b"{", world.event("", "d", LOG_MS * 2, load=1.0)], headers=[forged, []])
    (dead,) = (await intake(records)).outputs

    assert dead.headers is not None
    found = [dict(headers) for headers in dead.headers]
    assert [h["code"] for h in found] == [b"json.invalid", b"time.future"]
    assert [h["source"] for h in found] == [b"telemetry[2]@0", b"telemetry[2]@1"]
    assert {h["stage"] for h in found} == {b"intake"}
    assert found[0]["mine"] is None


async def test_a_forged_origin_goes_no_further() -> None:
    """A header that a producer wrote under our name is replaced."""
    value = world.event("", "d", world.START_MS, load=1.0)
    records = world.batch([value], headers=[[(ORIGIN, b"other[0]@1"), ("mine", b"1")]])
    (output,) = (await intake(records)).outputs

    assert output.headers is not None
    assert list(output.headers[0]) == [("mine", b"1"), (ORIGIN, b"telemetry[2]@0")]


async def test_what_a_crash_writes_again_is_a_repeat() -> None:
    """Events without ids, written twice by the intake stage: each is counted once by ENRICH."""
    first, again = await intake(telemetry(20)), await intake(telemetry(20))
    pairs = list(zip(first.outputs, again.outputs, strict=True))
    assert pairs
    for one, two in pairs:
        counts = await enriched(as_read(one), as_read(two, first=len(one.values)))
        assert counts["out"] == counts["repeated"] == len(one.values)


async def test_late_events_say_where_they_came_in() -> None:
    """Behind the intake stage, coordinates are those on telemetry."""
    values = [world.event("", "d", world.START_MS + at, load=1.0) for at in (60_000, 0)]
    (output,) = (await intake(world.batch(values))).outputs
    agent = EnrichAgent(PIPELINE, TOPICS, numerics="n")
    effects = await agent.process(agent.new_state("t", 0), as_read(output), rebuilt=False)
    (late,) = (o for o in effects.outputs if o.topic == TOPICS.late.name)

    assert late.headers is not None
    assert dict(late.headers[0])["source"] == b"telemetry[2]@1"
    assert ORIGIN not in dict(late.headers[0])


def test_the_rule_of_the_key_and_rekeying_exclude_each_other(tmp_path: Path) -> None:
    """One line says so, when the file is read."""
    file = tmp_path / "press.toml"
    file.write_text(
        'name = "press"\n[input]\nrekey = true\nkey = "entity"\n[input.metrics]\nload = {}\n'
        '[views.v]\nfeatures = [{ op = "raw", metrics = ["*"] }]\n[model]\nfile = "m.onnx"\n'
    )
    with pytest.raises(PipelineFileError, match=r"input\.rekey"):
        load_pipeline(file)


def test_only_those_that_rekey_have_the_topic() -> None:
    """Without it there is no such topic, and ENRICH reads telemetry."""
    plain = topics_of(world.pipeline())
    assert plain.keyed is None
    assert plain.enriched == plain.telemetry
    assert len(TOPICS.all()) == len(plain.all()) + 1
    assert Input(metrics={"load": Metric()}).rekey is False


async def test_a_stage_that_a_pipeline_does_not_have_is_refused() -> None:
    """Asked for it alone, one line says where it comes from; with others, those run."""
    plain, settings = world.pipeline(), load_settings(None, {})
    with pytest.raises(SettingsError, match=r"stages enrich, serve.*input\.rekey"):
        Site(Path("press.toml"), plain, settings, stages=["intake"])

    for pipeline, expected in ((plain, STAGES), (PIPELINE, ALL_STAGES)):
        site = Site(Path("press.toml"), pipeline, settings, stages=ALL_STAGES)
        assert tuple(worker.stage for worker in site.supervisor.workers) == expected
