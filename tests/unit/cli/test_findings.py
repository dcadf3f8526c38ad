"""The doctor's judgements, without services."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec.structs import replace as replace_struct

from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.settings import BusSettings, SnapshotSettings
from headrace.schemas.topics import topics_of
from headrace.streams.bus.topics import TopicFound, topic_configs
from headrace.streams.cli.context import pipeline_file
from headrace.streams.cli.findings import packages
from headrace.streams.cli.health import bus_findings, retention_findings, topic_findings

TOPICS = topics_of(load_pipeline(pipeline_file("hosts")))
GOOD = {s.name: TopicFound(s.name, s.partitions, topic_configs(s)) for s in TOPICS.all()}


def judged(found: dict[str, TopicFound]) -> dict[str, tuple[str, str]]:
    """Level and words of each topic that is not ok."""
    findings = topic_findings(TOPICS, found, "hosts")
    return {f.subject: (f.level, f.found) for f in findings if f.level != "ok"}


def test_topics_as_we_make_them_pass():
    """What `topics apply` makes is what the doctor wants."""
    assert judged(GOOD) == {}


@pytest.mark.parametrize(
    ("change", "level", "remedy"),
    [
        ({"partitions": 7}, "fail", "topics.partitions = 7"),
        ({"configs": {"message.timestamp.type": "CreateTime"}}, "warn", "LogAppendTime"),
        ({"configs": {"retention.ms": "1000"}}, "warn", "raise retention.ms"),
    ],
)
def test_each_trouble_of_a_topic_is_found(change, level, remedy):
    """A wrong partition count fails; settings that lose data warn; both name the remedy."""
    name = TOPICS.telemetry.name
    [(subject, (found_level, words))] = judged(
        {**GOOD, name: replace(GOOD[name], **change)}
    ).items()
    assert (subject, found_level) == (f"topic {name}", level)
    assert remedy in words


def test_missing_topics_warn_with_the_command():
    """A topic that is not there yet is no failure: `topics apply` makes it."""
    found = judged({})
    assert len(found) == 8
    assert all("headrace topics apply hosts" in words for _, words in found.values())


def test_unlimited_retention_and_silent_buses_pass():
    """Retention -1 keeps for ever; a bus that tells no settings is not blamed."""
    name = TOPICS.telemetry.name
    assert judged({**GOOD, name: replace(GOOD[name], configs={"retention.ms": "-1"})}) == {}
    assert judged({**GOOD, name: replace(GOOD[name], configs={})}) == {}


def test_features_that_end_before_telemetry_are_found():
    """SERVE must find what ENRICH can still read; telemetry kept for ever asks for nothing."""
    name = TOPICS.features.name
    day = {"retention.ms": "86400000"}
    kept = {**GOOD, TOPICS.telemetry.name: replace(GOOD[TOPICS.telemetry.name], configs=day)}
    hour = TopicFound(name, GOOD[name].partitions, {"retention.ms": "3600000"})
    words = judged({**kept, name: hour})[f"topic {name}"]

    assert (words[0], "expected as long" in words[1]) == ("warn", True)
    assert judged({**kept, name: replace(hour, configs=day)}) == {}


@pytest.mark.parametrize(
    ("hours", "snapshots", "level", "words"),
    [
        (24.0, SnapshotSettings(), "ok", "up to 24 h loses nothing"),
        (24.0, SnapshotSettings(url="/s", every_s=7200.0), "ok", "up to 22 h loses nothing"),
        (0.5, SnapshotSettings(), "warn", "leaves 0.5 h for an outage"),
        (2.0, SnapshotSettings(url="/s", every_s=7200.0), "warn", "leaves 0 h for an outage"),
    ],
)
def test_the_longest_outage_is_told(hours, snapshots, level, words):
    """Retention of telemetry, less what a snapshot may be old."""
    telemetry = replace(TOPICS.telemetry, retention_ms=round(hours * 3_600_000))
    [finding] = retention_findings(replace(TOPICS, telemetry=telemetry), snapshots)

    assert (finding.level, words in finding.found) == (level, True)


@pytest.mark.parametrize(
    ("kind", "mode", "level"),
    [
        ("embedded", "exactly-once", "fail"),
        ("embedded", "at-least-once", "ok"),
    ],
)
async def test_a_local_bus_that_cannot_keep_the_mode_is_found(kind, mode, level):
    """Before `up` refuses it, in the words in which `up` does."""
    pipeline = load_pipeline(pipeline_file("hosts"))
    pipeline = replace_struct(pipeline, delivery=replace_struct(pipeline.delivery, mode=mode))
    found = [f async for f in bus_findings(BusSettings(kind=kind), pipeline)]
    [delivery] = [f for f in found if f.subject == "delivery"]

    assert delivery.level == level
    assert (level == "ok") or "headrace kafka --install" in delivery.found


def test_missing_extras_name_their_install_line():
    """A package that is absent is said together with what to install."""
    found = [f.found for f in packages(lambda name: None) if f.level == "warn"]
    assert any("pip install 'headrace[host]'" in line for line in found)
