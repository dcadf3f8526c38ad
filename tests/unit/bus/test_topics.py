"""Topic settings, and what is refused about topics that are there."""

from __future__ import annotations

import pytest

from headrace.schemas.errors import TopicError
from headrace.schemas.topics import TopicSpec
from headrace.streams.bus.topics import (
    check_partitions,
    check_present,
    count_partitions,
    topic_configs,
)

SPEC = TopicSpec("t", "telemetry", 4, 3_600_000, "raw", ours=True)
THEIRS = TopicSpec("t", "telemetry", 4, 3_600_000, "raw", ours=False)


def test_segments_are_a_quarter_of_the_retention() -> None:
    """A bus deletes whole segments, so a segment is shorter than the retention."""
    configs = topic_configs(SPEC)
    assert (configs["retention.ms"], configs["segment.ms"]) == ("3600000", "900000")
    assert configs["message.timestamp.type"] == "LogAppendTime"


def test_only_partitions_with_a_leader_count() -> None:
    """A topic is there when its partitions can be read; one in error is not there."""
    found = [
        {"topic": "a", "error_code": 0, "partitions": [{"error_code": 0}, {"error_code": 5}]},
        {"topic": "b", "error_code": 3, "partitions": []},
    ]
    assert count_partitions(found) == {"a": 1}


def test_what_is_not_ours_must_be_there() -> None:
    """A missing topic of others is fatal and named with its stage; ours is made."""
    check_present([SPEC])
    with pytest.raises(TopicError, match="named for telemetry, is not on the bus"):
        check_present([SPEC, THEIRS])


def test_partitions_must_agree() -> None:
    """Fewer and more partitions than expected are both refused."""
    check_partitions(SPEC, 4)
    for found in (3, 8):
        with pytest.raises(TopicError, match=f"topics.partitions = {found}"):
            check_partitions(SPEC, found)
