"""What is computed of stretches is of one log: the check of `same_log.py`, around it all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from headrace.schemas.batch import RecordBatch
from headrace.streams.replay.past import PastLog
from headrace.streams.replay.ranges import Span
from headrace.streams.replay.same_log import check_same_log, last_record


class _OneTopic:
    """One partition of a `PastLog` (as `Reads`)."""

    def __init__(self, log: PastLog, topic: str, partition: int) -> None:
        self.topic, self._log, self._partition = topic, log, partition

    async def edges(self) -> dict[int, tuple[int, int]]:
        """See `Reads`."""
        return {self._partition: await self._log.log_range(self.topic, self._partition)}

    async def read(
        self, partition: int, start: int, stop: int, *, fetch_bytes: int
    ) -> AsyncIterator[RecordBatch]:
        """See `Reads`; what has left the log is passed over."""
        begin, end = (await self.edges())[partition]
        start, stop = max(start, begin), min(stop, end)
        if start < stop:
            async for batch in self._log.read_range(self.topic, partition, start, stop):
                yield batch


@asynccontextmanager
async def one_log(log: PastLog, topic: str, spans: Sequence[Span]) -> AsyncIterator[None]:
    """What is computed of these stretches inside is of one log, or refused in the end.

    Raises:
        StateError: the topic was made anew meanwhile. Fatal.
        BusUnavailableError: retryable.
    """
    known = []
    for span in spans:
        reader = _OneTopic(log, topic, span.partition)
        _, end = await log.log_range(topic, span.partition)
        last = await last_record(reader, span._replace(stop=min(span.stop, end)))
        if last is not None:
            known.append((reader, span.partition, last))
    yield
    for reader, partition, last in known:
        await check_same_log(reader, partition, last)
