"""The doctor's judgements, without services."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.topics import topics_of
from headrace.streams.bus.topics import TopicFound, topic_configs
from headrace.streams.cli.context import pipeline_file
from headrace.streams.cli.findings import packages
from headrace.streams.cli.health import topic_findings

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
    assert len(found) == 6
    assert all("headrace topics apply hosts" in words for _, words in found.values())


def test_unlimited_retention_and_silent_buses_pass():
    """Retention -1 keeps for ever; a bus that tells no settings is not blamed."""
    name = TOPICS.telemetry.name
    assert judged({**GOOD, name: replace(GOOD[name], configs={"retention.ms": "-1"})}) == {}
    assert judged({**GOOD, name: replace(GOOD[name], configs={})}) == {}


def test_missing_extras_name_their_install_line():
    """A package that is absent is said together with what to install."""
    found = [f.found for f in packages(lambda name: None) if f.level == "warn"]
    assert any("pip install 'headrace[host]'" in line for line in found)
