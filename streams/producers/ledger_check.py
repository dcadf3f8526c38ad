"""Hold a pipeline's topics against the ledger of a fleet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Set
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from headrace.schemas.batch import RecordBatch
from headrace.schemas.errors import RetryableError, SettingsError
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.topics import topics_of
from headrace.streams.client.bus import Bus, BusReader, Start
from headrace.streams.producers.fates import Fates
from headrace.streams.producers.ledger_file import LedgerReader

QUIET_S = 1.0
"""After the last event: time in which one that must not be there would still come."""
FETCH_ROWS = 5_000
FETCH_S = 0.2
EARLIER_MS = 60_000
"""The broker's clock may be so far behind the sender's."""


async def check(bus: Bus, pipeline: Pipeline, ledger: LedgerReader, *, patience_s: float) -> Fates:
    """Read the pipeline's output topics until every event of the ledger is found.

    Args:
        bus: Where.
        pipeline: Whose topics.
        ledger: Of a run that has ended.
        patience_s: Ends it after so long without a new record, seconds.

    Returns:
        What became of the events.

    Raises:
        SettingsError: the ledger is of another pipeline, or its events have no id. Fatal.
        BusRefusedError, TopicError: fatal; what is retryable is repeated.
    """
    topics = topics_of(pipeline)
    if ledger.header.topic != topics.telemetry.name:
        raise SettingsError(
            f"the ledger is of topic {ledger.header.topic!r}, and pipeline {pipeline.name!r} "
            f"reads {topics.telemetry.name!r}; name the pipeline that was fed"
        )
    if pipeline.input.id is None:
        raise SettingsError(
            f"pipeline {pipeline.name!r} has no event id, expected one to tell events apart; "
            "check a pipeline whose [input] names an id"
        )
    fates = Fates(ledger.header, ledger)
    takers: dict[str, list[Callable[[RecordBatch], None]]] = {
        topics.predictions.name: [fates.predictions, fates.derived],
        topics.late.name: [lambda records: fates.originals("late", records)],
        topics.deadletter.name: [lambda records: fates.originals("dead", records)],
        topics.features.name: [fates.derived],
        topics.partials.name: [fates.derived],
        topics.summaries.name: [fates.derived],
    }
    begin = datetime.fromtimestamp((ledger.header.start_ms - EARLIER_MS) / 1000, UTC).isoformat()
    progress = _Progress(fates, patience_s)
    async with AsyncExitStack() as stack:
        work = []
        for topic, take in takers.items():
            reader = bus.reader(topic, group=None, start=begin)
            await reader.start(_FromItsStart())
            stack.push_async_callback(reader.stop)
            work.append(asyncio.create_task(_read(reader, take, progress)))
            stack.callback(work[-1].cancel)
        await asyncio.gather(*work)
    return fates


async def _read(
    reader: BusReader, take: list[Callable[[RecordBatch], None]], progress: _Progress
) -> None:
    while not progress.over:
        try:
            found = await reader.fetch(max_rows=FETCH_ROWS, timeout_s=FETCH_S)
        except RetryableError as error:
            await asyncio.sleep(error.retry_after_s)
            continue
        for records in found:
            progress.moved()
            for each in take:
                each(records)


class _Progress:
    """Says when nothing more is to be waited for."""

    def __init__(self, fates: Fates, patience_s: float) -> None:
        self._fates, self._patience_s = fates, patience_s
        self._moved_at_s = time.monotonic()

    def moved(self) -> None:
        """A record came."""
        self._moved_at_s = time.monotonic()

    @property
    def over(self) -> bool:
        quiet_s = time.monotonic() - self._moved_at_s
        return quiet_s > self._patience_s or (quiet_s > QUIET_S and self._fates.settled)


class _FromItsStart:
    """Owns nothing: every partition is read from where the reader begins."""

    async def assigned(self, starts: Mapping[int, Start]) -> Mapping[int, int]:
        return {partition: start.position.offset for partition, start in starts.items()}

    async def revoked(self, partitions: Set[int]) -> None:
        return
