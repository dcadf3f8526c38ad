"""Where each stage's group begins, settled before any member joins."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from headrace.schemas.errors import PipelineFileError
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.topics import PipelineTopics
from headrace.streams.bus_reads import Start
from headrace.streams.kafka import first_positions


async def settle_positions(
    pipeline: Pipeline,
    topics: PipelineTopics,
    stages: Sequence[str],
    options: dict[str, Any],
    *,
    start: str | None,
) -> None:
    """Commit a first offset for every partition that a stage's group never read.

    ENRICH begins where the file or `start` says; SERVE serves every block there ever was.

    Raises:
        PipelineFileError: a start that is no time. Fatal.
        BusUnavailableError: retryable; BusRefusedError, TopicError: fatal.
    """
    begin = {
        "enrich": (topics.telemetry.name, parse_start(start or pipeline.delivery.start)),
        "serve": (topics.features.name, parse_start("earliest")),
    }
    for stage in stages:
        topic, where = begin[stage]
        await first_positions(options, f"{pipeline.name}.{stage}", [topic], where)


def parse_start(text: str) -> Start:
    """``latest``, ``earliest``, or an RFC 3339 time as milliseconds since 1970.

    Raises:
        PipelineFileError: it is none of these. Fatal.

    Example:
        >>> parse_start("latest"), parse_start("2026-11-21T10:00:00Z")
        ('latest', 1795255200000)
    """
    if text == "latest":
        return "latest"
    if text == "earliest":
        return "earliest"
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise ValueError("it names no time zone; add Z")
    except ValueError as error:
        raise PipelineFileError(
            f"delivery start {text!r} is no place to begin ({error}); "
            f"use latest, earliest or a time such as 2026-11-21T10:00:00Z"
        ) from error
    return round(time.timestamp() * 1000)
