"""Opening a pipeline's past: its logs, what is kept of its states and models, and a range of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from headrace.feature_store.snapshot_places import open_place, open_snapshots
from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.schemas.settings import Settings
from headrace.schemas.topics import topics_of
from headrace.serving.repository import Repository
from headrace.streams.bus.options import client_options
from headrace.streams.client.clock import wall_clock
from headrace.streams.replay.definitions import Definitions
from headrace.streams.replay.locate import locate
from headrace.streams.replay.past import BusLog, Past
from headrace.streams.replay.ranges import Plan, Span, Wanted
from headrace.streams.replay.recorded import Unread, recorded_answers

_TAIL_RECORDS = 2_000
"""So many records before the end of the predictions topic are looked at for the newest event."""


class Opened(NamedTuple):
    """A past, and the logs to ask for ranges."""

    past: Past
    log: BusLog
    pipeline: Pipeline


@asynccontextmanager
async def open_past(
    settings: Settings, file: Path, *, models: Sequence[Path] = (), warm_up: int | None = None
) -> AsyncIterator[Opened]:
    """What a replay of a pipeline reads, beside everything live.

    Args:
        settings: Where the bus is, and what is kept.
        file: Pipeline file.
        models: Further ONNX files, for predictions of models that are kept nowhere else.
        warm_up: See `Past`.

    Raises:
        SettingsError, PipelineFileError, ModelError, MissingExtraError, BusRefusedError: fatal.
    """
    pipeline = load_pipeline(file)
    url, repository = settings.snapshots.url, None
    if url is not None:
        repository = Repository(open_place(url), pipeline.name, wall_clock)
    definitions = Definitions(pipeline, topics_of(pipeline), file.parent, repository, models)
    snapshots = open_snapshots(settings.snapshots, pipeline.name, wall_clock)
    async with BusLog(client_options(settings.bus)) as log:
        try:
            yield Opened(Past(log, definitions, snapshots, warm_up), log, pipeline)
        finally:
            await definitions.close()


async def plan_range(opened: Opened, wanted: Wanted) -> Plan:
    """Offsets of the topic that ENRICH reads, and what of them is not to be had.

    Raises:
        SettingsError: a range that cannot be. Fatal. BusUnavailableError: retryable.
    """
    topic = opened.past.definitions.topics.enriched.name
    skew_ms = round(opened.pipeline.input.max_skew_s * 1000)
    now_ms = round(wall_clock() * 1000)
    reader = await opened.log.reader(topic)
    return await locate(opened.log.options, reader, wanted, now_ms=now_ms, skew_ms=skew_ms)


async def newest_served(opened: Opened, events: int) -> list[Span]:
    """About so many of the newest offsets that predictions name, over all partitions.

    Raises:
        BusUnavailableError: retryable; BusRefusedError, TopicError: fatal.
    """
    topics = opened.past.definitions.topics
    each = -(-events // topics.telemetry.partitions)
    found = []
    for partition in range(topics.telemetry.partitions):
        newest = await _newest(opened.log, topics.predictions.name, partition)
        if newest is not None:
            begin, _ = await opened.log.log_range(topics.enriched.name, partition)
            found.append(Span(partition, max(begin, newest + 1 - each), newest + 1))
    return [span for span in found if span.start < span.stop]


async def _newest(log: BusLog, topic: str, partition: int) -> int | None:
    """Highest source offset that the newest predictions of a partition name; None for none."""
    begin, end = await log.log_range(topic, partition)
    start = max(begin, end - _TAIL_RECORDS)
    highest = None
    batches = log.read_range(topic, partition, start, end)
    async for answers in recorded_answers(batches, Unread()):
        highest = max(highest or 0, int(answers.offsets[-1]))
    return highest
