"""What is computed of stretches is of one log: the check of `same_log.py`, around it all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from headrace.schemas.batch import RecordBatch
from headrace.streams.replay.past import PastLog
from headrace.streams.replay.ranges import Span
from headrace.streams.replay.same_log import check_same_log, last_record

_END = 1 << 62


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
async def one_log(
    log: PastLog, topic: str, spans: Sequence[Span], *, beside: Sequence[str] = ()
) -> AsyncIterator[None]:
    """What is computed of these stretches inside is of one log, or refused in the end.

    Args:
        log: Reads them.
        topic: Whose stretches they are.
        spans: The stretches.
        beside: Topics that hold what was made of them in the same partitions: each of them, as far
            as it is written now, is to be the same log, too.

    Raises:
        StateError: a topic was made anew meanwhile. Fatal.
        TopicError: there is no such topic. Fatal.
        BusUnavailableError: retryable.
    """
    whole = [Span(span.partition, 0, _END) for span in spans]
    known = []
    for name, span in (
        *((topic, span) for span in spans),
        *((name, span) for name in beside for span in whole),
    ):
        reader = _OneTopic(log, name, span.partition)
        _, end = await log.log_range(name, span.partition)
        last = await last_record(reader, span._replace(stop=min(span.stop, end)))
        if last is not None:
            known.append((reader, span.partition, last))
    yield
    for reader, partition, last in known:
        await check_same_log(reader, partition, last)
