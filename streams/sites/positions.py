"""Where each stage's group begins, settled before any member joins."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from headrace.schemas.errors import PipelineFileError, StateError
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.protocols import CheckpointMeta
from headrace.schemas.settings import StoreSettings
from headrace.schemas.topics import PipelineTopics
from headrace.streams.bus.groups import first_positions
from headrace.streams.bus.reads import Start, last_record, log_range, log_ranges
from headrace.streams.workers.jobs import groups_of

log = logging.getLogger("headrace.delivery")


async def settle_positions(
    pipeline: Pipeline,
    topics: PipelineTopics,
    stages: Sequence[str],
    options: dict[str, Any],
    store: StoreSettings | None,
    *,
    start: str | None,
    empty: bool = False,
) -> None:
    """Commit a first offset for every partition that a stage's group never read.

    A partition with a checkpoint begins at its position, or, where that is of another log under
    the same name, at the log's start. Without one, the first stage begins where the file or
    `start` says, and those behind it at the first record there is.

    Args:
        pipeline: The pipeline.
        topics: Its topics.
        stages: Stages that will run.
        options: Client options of the bus.
        store: Where checkpoints may be; None where bus and store are new and empty.
        start: Where to begin, said on the command line.
        empty: The store is sure to hold no checkpoint: it is not asked.

    Raises:
        StateError: a stage has published and lost both its offsets and its checkpoint, and `start`
            does not say where to begin. Fatal.
        PipelineFileError: a start that is no time. Fatal.
        BusUnavailableError, StoreUnavailableError: retryable; BusRefusedError, TopicError: fatal.
    """
    first = start or pipeline.delivery.start
    begin = {
        "intake": (topics.telemetry, topics.enriched, first),
        "enrich": (topics.enriched, topics.features, "earliest" if topics.keyed else first),
        "serve": (topics.features, topics.predictions, "earliest"),
        "summarize": (topics.partials, topics.summaries, "earliest"),
    }

    async def settle(stage: str) -> None:
        source, output, where = begin[stage]

        async def known(new: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
            found, begins, ends = await asyncio.gather(
                _checkpoints(pipeline.name, stage, None if empty else store, options, new),
                log_ranges(options, source.name),
                log_ranges(options, output.name),
            )
            if start is None:
                lost = [tp for tp in new if tp not in found and begins[tp[1]][1] > 0]
                _refuse_amnesia(stage, lost, ends)
            return found

        await first_positions(
            options,
            f"{pipeline.name}.{stage}",
            [source.name],
            parse_start(where),
            known=None if store is None else known,
        )

    await asyncio.gather(*map(settle, groups_of(stages)))


async def _checkpoints(
    pipeline: str,
    stage: str,
    settings: StoreSettings | None,
    options: dict[str, Any],
    new: list[tuple[str, int]],
) -> dict[tuple[str, int], int]:
    """Where these partitions go on by their checkpoints, where there are any."""
    if settings is None:
        return {}
    # Loaded only here: 0.17 s of CPU that a start on a new store, or on known groups, saves.
    from headrace.feature_store.open import open_store

    store = await open_store(settings, pipeline)
    try:
        held = {tp: await store.read(f"{stage}/{tp[0]}/{tp[1]}") for tp in new}
    finally:
        await store.close()
    metas = {tp: found.meta for tp, found in held.items() if found is not None}
    return {tp: await _position(options, *tp, meta) for tp, meta in metas.items()}


async def _position(
    options: dict[str, Any], topic: str, partition: int, meta: CheckpointMeta
) -> int:
    """Where a checkpoint says to go on; the log's start where it is of another log.

    The bus forgets a group's offsets of a topic that is deleted, the store does not.
    """
    begin, end = await log_range(options, topic, partition)
    last = meta.last
    same = meta.position <= end and (
        last is None
        or last.offset < begin
        or last == await last_record(options, topic, partition, last.offset)
    )
    if not same:
        log.warning(
            "%s[%d] is another log than its checkpoint's: it is read from its start",
            topic, partition,
        )  # fmt: skip
    return meta.position if same else begin


async def check_store(settings: StoreSettings, pipeline: str) -> None:
    """See that the store answers and lets us in: a running worker would wait for it for ever.

    Raises:
        StoreUnavailableError: retryable; StoreRefusedError, SettingsError: fatal.
    """
    from headrace.feature_store.open import open_store

    await (await open_store(settings, pipeline)).close()


def _refuse_amnesia(
    stage: str, new: list[tuple[str, int]], ends: dict[int, tuple[int, int]]
) -> None:
    """Neither offset nor checkpoint, yet outputs: beginning anywhere would lose or double."""
    for topic, partition in new:
        if ends.get(partition, (0, 0))[1] > 0:
            raise StateError(
                f"stage {stage!r} has published from {topic}[{partition}] before, but its group "
                f"offset and its checkpoint are both gone; say where to begin with "
                f"--from earliest|latest|<time>"
            )


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
