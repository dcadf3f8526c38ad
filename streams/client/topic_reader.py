"""Reading one topic item by item: hand over, let the caller work, commit behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from headrace.schemas.errors import FatalError
from headrace.schemas.settings import BusSettings
from headrace.streams.client.bus import Bus
from headrace.streams.client.connect import bus_of
from headrace.streams.client.reading import Content, Counts, Ledger, Parcel

T = TypeVar("T")

WAIT_S = 0.25
"""Longest wait of one fetch: an idle consumer looks at its commit clock this often."""


class TopicReader(Generic[T]):
    """Items of one topic, one by one or in batches, at least once and without repeats.

    Asking for the next item says that the one before is finished. Only what is finished is
    committed, so after a crash, a rebalance or a loop left by ``break`` the unfinished items are
    delivered again, to whoever reads the partition then; `done` says that the item in hand is
    finished too. Offset and marks of what was seen are committed as one, so a restart neither
    loses an item nor delivers a finished one again.

    Order of the steps: fetch; drop repeats; hand over; the caller works and asks for the next;
    commit (every `commit_every_s`, when a partition is taken away, and on leaving).

    Args:
        bus: Where; connection settings, aiokafka options, or a `Bus`.
        topic: Topic name.
        content: What its records are.
        group: Consumer group: members share the partitions and go on where the group was. None
            reads every partition from `start` and commits nothing.
        start: Where a group that never read begins: ``latest``, ``earliest`` or an RFC 3339 time.
        follow: False ends the iteration at what the topic held when it was opened.
        max_rows: Most items of one batch.
        commit_every_s: Time between two commits, seconds.
        now: Wall clock, seconds since 1970.
    """

    def __init__(
        self,
        bus: BusSettings | Mapping[str, Any] | Bus,
        topic: str,
        content: Content[T],
        *,
        group: str | None,
        start: str = "latest",
        follow: bool = True,
        max_rows: int = 2000,
        commit_every_s: float = 1.0,
        now: Callable[[], float],
    ) -> None:
        self.topic = topic
        self._group, self._follow = group, follow
        self._max_rows, self._commit_every_s = max_rows, commit_every_s
        self._now = now
        self._reader = bus_of(bus).reader(topic, group=group, start=start)
        self._ledger = Ledger(self._reader, content)
        self._ends: dict[int, int] = {}
        self._open = False
        self._committed_at_s = float("-inf")
        self._parcel: Parcel[T] | None = None
        self._from, self._to = 0, 0

    @property
    def counts(self) -> Counts:
        """What became of the records so far."""
        return self._ledger.counts

    async def __aenter__(self) -> Self:
        """Connect and join.

        Raises:
            BusUnavailableError: retryable. BusRefusedError, TopicError, SettingsError: fatal.
        """
        await self._reader.start(self._ledger)
        self._open = True
        if not self._follow:
            try:
                self._ends = await self._reader.ends()
            except BaseException:
                await self.__aexit__(None, None, None)
                raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open = False
        try:
            await self.commit()
        finally:
            await self._reader.stop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """The next item; the one before is finished.

        Raises:
            BusUnavailableError: retryable; nothing is lost, ask again.
        """
        return (await self._next(whole=False))[0]

    def batches(self) -> Batches[T]:
        """Iterate over lists of items instead; asking for the next finishes the one before."""
        return Batches(self)

    async def next_batch(self) -> list[T]:
        """The next items of one partition, at least one; the batch before is finished.

        Raises:
            StopAsyncIteration: with `follow` false, there is no more.
            BusUnavailableError: retryable.
        """
        return await self._next(whole=True)

    def done(self) -> None:
        """The item or batch in hand is finished: the next commit covers it."""
        if self._parcel is not None and self._to > self._from:
            self._ledger.finish(self._parcel, self._from, self._to)
            self._from = self._to

    async def commit(self) -> bool:
        """Commit everything finished now; false where the bus refused or did not answer."""
        self._committed_at_s = time.monotonic()
        return True if self._group is None else await self._ledger.commit()

    def _accept(self, items: list[T]) -> list[T]:
        """Those of `items` that the loop is given."""
        return items

    async def _next(self, *, whole: bool) -> list[T]:
        """The next item, or the rest of its batch."""
        while True:
            self.done()
            parcel = self._parcel
            if parcel is None or self._to >= len(parcel.items) or not self._ledger.owns(parcel):
                self._parcel = None
                parcel = await self._next_parcel()
            start = self._to
            stop = len(parcel.items) if whole else min(start + 1, len(parcel.items))
            # Before `_to` moves: an item whose hand-over fails is not in hand.
            items = self._accept(parcel.items[start:stop])
            self._from, self._to = start, stop
            if items:
                self.counts.delivered += len(items)
                return items

    async def _next_parcel(self) -> Parcel[T]:
        """The next batch read, possibly of no items; commits on time."""
        if not self._open:
            raise FatalError(f"reading {self.topic!r} began before it was open; use `async with`")
        while True:
            if time.monotonic() - self._committed_at_s >= self._commit_every_s:
                await self.commit()
            if self._ledger.queue:
                break
            if await self._at_end():
                raise StopAsyncIteration
            fetched = await self._reader.fetch(max_rows=self._max_rows, timeout_s=WAIT_S)
            now_ms = self._now() * 1000
            for records in fetched:
                self._ledger.take_in(records, now_ms)
        parcel = self._parcel = self._ledger.queue.popleft()
        self._from = self._to = 0
        if not parcel.items:
            self._ledger.finish(parcel, 0, 0)
        return parcel

    async def _at_end(self) -> bool:
        if self._follow:
            return False
        positions = await self._reader.positions()
        return all(positions.get(partition, 0) >= end for partition, end in self._ends.items())


class Batches(Generic[T]):
    """Iterator over the batches of a `TopicReader`."""

    def __init__(self, reader: TopicReader[T]) -> None:
        self._reader = reader

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[T]:
        return await self._reader.next_batch()
