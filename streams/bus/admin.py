"""Topics on the bus: described, and made."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]
from aiokafka.admin.config_resource import (  # type: ignore[import-untyped]
    ConfigResource,
    ConfigResourceType,
)
from aiokafka.errors import (  # type: ignore[import-untyped]
    KafkaError,
    TopicAlreadyExistsError,
    for_code,
)

from headrace.schemas.errors import BusUnavailableError
from headrace.schemas.topics import TopicSpec
from headrace.streams.bus.connection import Options, started
from headrace.streams.bus.errors import as_ours
from headrace.streams.bus.topics import (
    TopicFound,
    check_partitions,
    check_present,
    count_partitions,
    topic_configs,
    topic_settings,
)

_TOPICS_S = 15.0


async def describe_topics(
    options: Options, names: Sequence[str] | None = None
) -> dict[str, TopicFound]:
    """The topics of these names (None: all) that exist, with their settings.

    Raises:
        BusUnavailableError: retryable; BusRefusedError: fatal.
    """
    async with started(AIOKafkaAdminClient(**options), options, "asking for topics") as admin:
        counts = await _partition_counts(admin)
        asked = [name for name in counts if names is None or name in names]
        configs = await _configs(admin, asked)
    return {name: TopicFound(name, counts[name], configs.get(name, {})) for name in asked}


async def partition_counts(options: Options) -> dict[str, int]:
    """How many partitions each topic on the bus has.

    Raises:
        BusUnavailableError: retryable; BusRefusedError: fatal.
    """
    async with started(AIOKafkaAdminClient(**options), options, "asking for topics") as admin:
        return await _partition_counts(admin)


async def _partition_counts(admin: Any) -> dict[str, int]:
    """Of all topics: asking for one by its name would create it where the bus does so by itself."""
    return count_partitions(await admin.describe_topics())


async def _configs(admin: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Settings of topics; empty where the bus cannot tell or may not."""
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    try:
        answers = await admin.describe_configs(asked) if asked else []
    except KafkaError:
        return {}
    return topic_settings(answers)


async def ensure_topics(
    options: Options, specs: Sequence[TopicSpec], *, replication: int = -1
) -> None:
    """Create the topics that are missing, and see that each has its partitions and leaders.

    Idempotent, also when several processes do it at once. A topic that exists keeps its settings.

    Args:
        options: Client options.
        specs: The topics wanted; one that is not `ours` must exist.
        replication: Replicas of a new topic; -1 is the bus's default.

    Raises:
        TopicError: another partition count, a missing topic that is not ours, or a creation that
            the bus refuses. Fatal.
        BusUnavailableError: retryable; BusRefusedError: fatal.
    """
    async with started(AIOKafkaAdminClient(**options), options, "preparing topics") as admin:
        counts = await _partition_counts(admin)
        missing = [spec for spec in specs if spec.name not in counts]
        check_present(missing)
        if missing:
            await _create(admin, missing, replication)
        deadline = time.monotonic() + _TOPICS_S
        while any(counts.get(spec.name, 0) < spec.partitions for spec in missing):
            if time.monotonic() > deadline:
                raise BusUnavailableError("new topics have no leader yet; they are asked for again")
            counts = await _partition_counts(admin)
    for spec in specs:
        check_partitions(spec, counts[spec.name])


async def _create(admin: Any, specs: Sequence[TopicSpec], replication: int) -> None:
    # The client wants assignments, be they empty, where the bus is to choose the replicas.
    assigned: dict[int, list[int]] | None = {} if replication == -1 else None
    wanted = [
        NewTopic(spec.name, spec.partitions, replication, assigned, topic_configs(spec))
        for spec in specs
    ]
    answer = await admin.create_topics(wanted)
    for name, code, *_ in answer.topic_errors:
        kind = for_code(code)
        if code and kind is not TopicAlreadyExistsError:
            raise as_ours(kind, f"creating topic {name!r}")
