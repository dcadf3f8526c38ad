"""An export from beginning to end: planned once, its parts made by one process or several."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self

import msgspec

from headrace.schemas.errors import FatalError, RetryableError
from headrace.streams.replay.ask import open_source, sheet_of
from headrace.streams.replay.choose import source_of
from headrace.streams.replay.export import Exporter
from headrace.streams.replay.folder import PART_OFFSETS, Folder, Report, Sheet
from headrace.streams.replay.ranges import Span, Wanted
from headrace.streams.replay.throttle import Throttle
from headrace.streams.replay.worker import Answer, Order
from headrace.streams.replay.writing import Format
from headrace.streams.together import all_of

_LINE_BYTES = 1 << 22


class Progress:
    """How far an export is, in offsets."""

    def __init__(self) -> None:
        self.total = self.done = self.resumed = 0

    def passed(self, offsets: int) -> None:
        """Count offsets that were read."""
        self.done += offsets


async def begin_export(
    order: Order,
    wanted: Wanted,
    form: Format,
    *,
    now_ms: int,
    part_offsets: int = PART_OFFSETS,
    by_day: bool = False,
) -> Sheet:
    """Plan an export into the order's folder, or find the one that was begun there.

    Raises:
        SettingsError, TopicError, PipelineFileError, MissingExtraError: fatal.
        BusUnavailableError: retryable.
    """
    async with open_source(order.ask) as source:
        sheet = await sheet_of(
            order.ask, source, wanted, form=form, now_ms=now_ms, part_offsets=part_offsets,
            by_day=by_day,
        )  # fmt: skip
    return Folder(Path(order.folder)).begin(sheet)


class Crew:
    """Processes that help with an export, started before it is planned: they import meanwhile.

    Args:
        size: How many, this process not counted.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._processes: list[Process] = []

    async def __aenter__(self) -> Self:
        for _ in range(self._size):
            self._processes.append(
                await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "headrace.streams.replay.worker", stdin=PIPE, stdout=PIPE,
                    limit=_LINE_BYTES,
                )
            )  # fmt: skip
        return self

    async def __aexit__(self, *error: object) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def __len__(self) -> int:
        return self._size

    def drives(
        self, order: Order, todo: deque[Span], told: Callable[[int], None]
    ) -> list[Coroutine[Any, Any, None]]:
        """Of each process what gives it parts while there are any."""
        return [_drive(process, order, todo, told) for process in self._processes]


async def run_export(
    order: Order, sheet: Sheet, *, crew: Crew | None = None, progress: Progress | None = None
) -> Report:
    """Make every part that has no mark, then the report.

    Args:
        order: What to do; its rates are of this process and its helpers together.
        sheet: Of the folder (`begin_export`).
        crew: Who helps.
        progress: Told how far it is.

    Raises:
        RetryableError: the bus is away; the same call goes on where this one stopped.
        FatalError: a setting or the disk is at fault.
    """
    folder, progress = Folder(Path(order.folder)), progress or Progress()
    marks = folder.sweep(sheet.parts)
    todo = deque(span for span in sheet.parts if span not in marks)
    progress.total = sheet.plan.offsets
    progress.done = progress.resumed = sum(span.stop - span.start for span in marks)
    helpers = len(crew) if crew is not None and len(todo) > 1 else 0
    share = order.shared_by(1 + helpers)
    works = [_make_parts(share, folder, sheet, todo, progress.passed)]
    if crew is not None and helpers:
        works += crew.drives(share, todo, progress.passed)
    await all_of(*works)
    report = folder.finish(sheet)
    if report is None:
        raise FatalError(f"parts of the export in {order.folder!r} went away; run it again")
    return report


async def _make_parts(
    order: Order, folder: Folder, sheet: Sheet, todo: deque[Span], told: Callable[[int], None]
) -> None:
    """Make parts in this process."""
    if not todo:
        return
    throttle = Throttle(order.bytes_per_s, order.rows_per_s)
    prediction = source_of(sheet.plan.wanted, order.ask.load())
    async with open_source(order.ask) as source:
        exporter = Exporter(
            source, folder, sheet, prediction=prediction, throttle=throttle, told=told
        )
        while todo:
            await exporter.part(todo.popleft())


async def _drive(
    process: Process, order: Order, todo: deque[Span], told: Callable[[int], None]
) -> None:
    """Give a worker parts while there are any."""
    _tell(process, order)
    while todo:
        _tell(process, todo.popleft())
        await _until_done(process, told)
    _tell(process, None)
    await process.wait()


def _tell(process: Process, line: Order | Span | None) -> None:
    """Write one line to a worker; None ends its input."""
    if process.stdin is not None:
        if line is None:
            process.stdin.close()
        else:
            process.stdin.write(msgspec.json.encode(line) + b"\n")


async def _until_done(process: Process, told: Callable[[int], None]) -> None:
    """Follow a worker's answers until its part is done."""
    while True:
        line = b"" if process.stdout is None else await process.stdout.readline()
        if not line:
            raise FatalError(
                f"a replay worker ended without an answer (exit {await process.wait()}); "
                f"run the same again, it goes on where it stopped"
            )
        answer = msgspec.json.decode(line, type=Answer)
        if answer.error is not None:
            kind = RetryableError if answer.is_retryable else FatalError
            raise kind(answer.error)
        told(answer.passed)
        if answer.mark is not None:
            return
