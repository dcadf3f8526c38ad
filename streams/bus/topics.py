"""Topics as they should be on the bus, and as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.schemas.errors import TopicError
from headrace.schemas.topics import EVENT_LIMIT_BYTES, TopicSpec


@dataclass(frozen=True, slots=True)
class TopicFound:
    """A topic as it is on the bus.

    Attributes:
        name: Its name.
        partitions: Its partition count.
        configs: Its settings by name; empty where the bus does not tell.
    """

    name: str
    partitions: int
    configs: Mapping[str, str] = field(default_factory=dict)


def topic_configs(spec: TopicSpec) -> dict[str, str]:
    """The settings of a topic of ours.

    The broker's time, as back-filled events with their own would be past retention at once; and
    segments of a quarter of the retention, as a bus deletes whole segments only.
    """
    return {
        "message.timestamp.type": "LogAppendTime",
        "retention.ms": str(spec.retention_ms),
        "segment.ms": str(max(spec.retention_ms // 4, 60_000)),
        "max.message.bytes": str(EVENT_LIMIT_BYTES),
        "cleanup.policy": "delete",
    }


def check_present(missing: Sequence[TopicSpec]) -> None:
    """See that every missing topic is ours to create.

    Raises:
        TopicError: one is not. Fatal.
    """
    for spec in missing:
        if not spec.ours:
            raise TopicError(
                f"topic {spec.name!r}, named for {spec.stage}, is not on the bus; create it "
                f"with {spec.partitions} partitions, or leave it out of [topics]"
            )


def check_partitions(spec: TopicSpec, found: int) -> None:
    """See that a topic has the partitions that its state was made for.

    Raises:
        TopicError: it has another number. Fatal.
    """
    if found != spec.partitions:
        raise TopicError(
            f"topic {spec.name!r} has {found} partitions, expected {spec.partitions}: positions "
            f"and state belong to partitions; set topics.partitions = {found}, or begin anew "
            f"under another pipeline name"
        )


def count_partitions(found: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Each topic's partitions that have a leader, from a broker's metadata."""
    return {
        topic["topic"]: sum(part["error_code"] == 0 for part in topic["partitions"])
        for topic in found
        if topic["error_code"] == 0
    }


def topic_settings(answers: Sequence[Any]) -> dict[str, dict[str, str]]:
    """Each topic's settings by name, from a broker's answers; of a topic in error none."""
    return {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for answer in answers
        for resource in answer.resources
        if resource[0] == 0
    }
