"""The past of a topic as Arrow record batches: for notebooks, pandas, Polars."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from headrace.schemas.settings import BusSettings
from headrace.streams.arrow import arrow
from headrace.streams.client.clock import wall_clock
from headrace.streams.replay.ask import Ask, open_source, sheet_of
from headrace.streams.replay.choose import choose, source_of
from headrace.streams.replay.folder import Sheet
from headrace.streams.replay.ranges import Missing, Span, Wanted
from headrace.streams.replay.source import Source
from headrace.streams.replay.throttle import GENTLE_BYTES_PER_S, Throttle


class Replayed:
    """Rows of a range of a topic; made by `open_replay`.

    Attributes:
        facts: What is to be known of the table.
        plan: Where its rows are.
        missing: What was asked for and is not to be had, as far as it is known by now.
        unreadable: Records that gave no row so far, ``topic[partition]@offset``.
        undated: Rows left out so far for want of an event time to choose them by.
    """

    def __init__(self, source: Source, sheet: Sheet, prediction: int | None, throttle: Throttle):
        self._source, self._sheet = source, sheet
        self._prediction, self._throttle = prediction, throttle
        self.facts, self.plan = sheet.table, sheet.plan
        self.missing: list[Missing] = list(sheet.plan.missing)
        self.unreadable: list[str] = []
        self.undated = 0

    @property
    def schema(self) -> Any:
        """The table's `pyarrow.Schema`."""
        return self._sheet.arrow_schema

    async def batches(self) -> AsyncGenerator[Any]:
        """`pyarrow.RecordBatch`es of at least one row: by partition, in the order of the log.

        Raises:
            StateError: records left the log before they were read, or it was made anew: what was
                given may be of both. Fatal.
            BusUnavailableError: retryable.
        """
        for span in self.plan.spans:
            async with aclosing(self.rows_of(span)) as batches:
                async for batch in batches:
                    yield batch

    async def rows_of(self, span: Span) -> AsyncGenerator[Any]:
        """The same of one span."""
        found = self._source.pieces(span, self._throttle.fetch_bytes)
        async with aclosing(found) as pieces:
            async for piece in pieces:
                self.unreadable += piece.unreadable
                rows, undated = choose(piece.table, self.facts, self.plan.wanted, self._prediction)
                self.undated += undated
                if rows.num_rows:
                    yield rows
                await self._throttle.took(piece.size, piece.records)
        await self._source.check_same(self.plan, span.partition)


class open_replay:  # noqa: N801 - read as a verb: `with open_replay(...) as replay`
    """Open a range of a topic, or of an export of one, to be read as Arrow.

    Reads beside everything that is live: no group, no commit, no store. Gentle by default.

    Args:
        bus: The bus (`headrace.schemas.settings.load_settings(None, os.environ).bus`).
        topic: A role of the pipeline (``predictions``, ``features``), or a topic's name.
        pipeline: The pipeline's file; without one, records are given as they were read.
        wanted: Which rows; all by default.
        raw: Add key, value and headers of each record.
        export: Read this export's folder instead of the bus.
        full_speed: Read as fast as it goes.

    Raises:
        SettingsError, PipelineFileError, TopicError, MissingExtraError, BusRefusedError: fatal.
        BusUnavailableError: retryable.
    """

    def __init__(
        self,
        bus: BusSettings | None = None,
        topic: str = "",
        *,
        pipeline: Path | str | None = None,
        wanted: Wanted | None = None,
        raw: bool = False,
        export: Path | str | None = None,
        full_speed: bool = False,
    ) -> None:
        self._ask = Ask(
            bus=bus or BusSettings(),
            topic=topic,
            pipeline=None if pipeline is None else str(pipeline),
            export=None if export is None else str(export),
            raw=raw,
        )
        self._wanted = wanted or Wanted()
        self._throttle = Throttle(None if full_speed else GENTLE_BYTES_PER_S)
        self._stack = AsyncExitStack()
        self._runner: asyncio.Runner | None = None
        self._replayed: Replayed | None = None

    async def __aenter__(self) -> Replayed:
        """Connect, and find the range."""
        try:
            source = await self._stack.enter_async_context(open_source(self._ask))
            now_ms = round(wall_clock() * 1000)
            sheet = await sheet_of(self._ask, source, self._wanted, form="parquet", now_ms=now_ms)
        except BaseException:
            await self._stack.aclose()
            raise
        prediction = source_of(sheet.plan.wanted, self._ask.load())
        return Replayed(source, sheet, prediction, self._throttle)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def __enter__(self) -> Self:
        """The same without asyncio: iterate, or `table()`."""
        self._runner = asyncio.Runner()
        try:
            self._replayed = self._runner.run(self.__aenter__())
        except BaseException:
            self._runner.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if self._runner is not None:
            self._runner.run(self._stack.aclose())
            self._runner.close()

    def __iter__(self) -> Iterator[Any]:
        """`pyarrow.RecordBatch`es, one after another."""
        runner, replayed = self._opened()
        batches = replayed.batches()
        try:
            while True:
                try:
                    yield runner.run(_next(batches))
                except StopAsyncIteration:
                    return
        finally:
            runner.run(batches.aclose())

    @property
    def schema(self) -> Any:
        """The table's `pyarrow.Schema`."""
        return self._opened()[1].schema

    @property
    def missing(self) -> list[Missing]:
        """What was asked for and is not to be had: see whether it is empty."""
        return self._opened()[1].missing

    @property
    def unreadable(self) -> list[str]:
        """Records that gave no row so far, ``topic[partition]@offset``."""
        return self._opened()[1].unreadable

    @property
    def undated(self) -> int:
        """Rows left out so far for want of an event time to choose them by."""
        return self._opened()[1].undated

    def reader(self) -> Any:
        """A `pyarrow.RecordBatchReader`, to be read once: pandas, Polars and DuckDB take it."""
        return arrow().RecordBatchReader.from_batches(self.schema, iter(self))

    def table(self) -> Any:
        """All rows as a `pyarrow.Table`, in memory."""
        return self.reader().read_all()

    def _opened(self) -> tuple[asyncio.Runner, Replayed]:
        if self._runner is None or self._replayed is None:
            raise RuntimeError("a replay is read inside `with open_replay(...) as replay`")
        return self._runner, self._replayed


async def _next(batches: AsyncGenerator[Any]) -> Any:
    return await anext(batches)
