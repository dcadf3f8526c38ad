"""An export from beginning to end: planned once, its parts made by one process or several."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable
from pathlib import Path

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

_LINE_BYTES = 1 << 22


class Progress:
    """How far an export is, in offsets."""

    def __init__(self) -> None:
        self.total = self.done = self.resumed = 0

    def passed(self, offsets: int) -> None:
        """Count offsets that were read."""
        self.done += offsets


async def begin_export(
    order: Order, wanted: Wanted, form: Format, *, now_ms: int, part_offsets: int = PART_OFFSETS
) -> Sheet:
    """Plan an export into the order's folder, or find the one that was begun there.

    Raises:
        SettingsError, TopicError, PipelineFileError, MissingExtraError: fatal.
        BusUnavailableError: retryable.
    """
    async with open_source(order.ask) as source:
        sheet = await sheet_of(
            order.ask, source, wanted, form=form, now_ms=now_ms, part_offsets=part_offsets
        )
    return Folder(Path(order.folder)).begin(sheet)


async def run_export(
    order: Order, sheet: Sheet, *, workers: int = 1, progress: Progress | None = None
) -> Report:
    """Make every part that has no mark, then the report.

    Args:
        order: What to do; its rates are of all workers together.
        sheet: Of the folder (`begin_export`).
        workers: Processes; one is this one.
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
    if workers <= 1 or len(todo) <= 1:
        await _alone(order, folder, sheet, todo, progress.passed)
    else:
        await _together(order, todo, min(workers, len(todo)), progress.passed)
    report = folder.finish(sheet)
    if report is None:
        raise FatalError(f"parts of the export in {order.folder!r} went away; run it again")
    return report


async def _alone(
    order: Order, folder: Folder, sheet: Sheet, todo: deque[Span], told: Callable[[int], None]
) -> None:
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


async def _together(
    order: Order, todo: deque[Span], workers: int, told: Callable[[int], None]
) -> None:
    share = msgspec.structs.replace(
        order,
        bytes_per_s=order.bytes_per_s and order.bytes_per_s / workers,
        rows_per_s=order.rows_per_s and order.rows_per_s / workers,
    )
    tasks = [asyncio.create_task(_drive(share, todo, told)) for _ in range(workers)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _drive(order: Order, todo: deque[Span], told: Callable[[int], None]) -> None:
    """Start a worker, and give it parts while there are any."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headrace.streams.replay.worker", stdin=PIPE, stdout=PIPE,
        limit=_LINE_BYTES,
    )  # fmt: skip
    try:
        _tell(process, order)
        while todo:
            _tell(process, todo.popleft())
            await _until_done(process, told)
        _tell(process, None)
        await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
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
