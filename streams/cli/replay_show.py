"""What `headrace replay` says: rows, progress, totals, and what is missing."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterable
from contextlib import aclosing
from datetime import datetime
from typing import Any

import click
import msgspec

from headrace.schemas.errors import SettingsError
from headrace.streams.bus.options import client_options
from headrace.streams.client.clock import wall_clock
from headrace.streams.client.kafka_bus import KafkaWriter
from headrace.streams.replay.ask import Ask
from headrace.streams.replay.folder import Report
from headrace.streams.replay.frames import Replayed, open_replay
from headrace.streams.replay.pool import Crew, Progress, begin_export, run_export
from headrace.streams.replay.ranges import Missing, Wanted
from headrace.streams.replay.rehearse import Rehearsal
from headrace.streams.replay.sharing import share_export
from headrace.streams.replay.worker import Order
from headrace.streams.replay.writing import Format

INCOMPLETE = 3
"""Exit code of a replay that is done but for what is missing, which it names."""

TELL_S, TELL_SELDOM_S = 0.5, 10.0
"""Between two lines of progress on a terminal, and elsewhere."""


async def print_rows(ask: Ask, wanted: Wanted, *, full_speed: bool) -> int:
    """Rows as JSON lines on standard output; the exit code."""
    replay = open_replay(
        ask.bus,
        ask.topic,
        pipeline=ask.pipeline,
        wanted=wanted,
        raw=ask.raw,
        export=ask.export,
        full_speed=full_speed,
    )
    async with replay as replayed, aclosing(replayed.batches()) as batches:
        async for batch in batches:
            for row in batch.to_pylist():
                click.echo(json.dumps(row, default=plain, ensure_ascii=False))
        return _left_out(replayed)


def plain(value: Any) -> str:
    """What JSON and a terminal have no form for, as text; times as RFC 3339."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


async def export_with_progress(
    order: Order, wanted: Wanted, form: Format, workers: int, group: str | None, *, by_day: bool
) -> Report:
    """Run an export, go on with one, or share one; progress on standard error."""
    helpers = 0 if group is not None else workers - 1
    async with Crew(helpers) as crew:
        now_ms = round(wall_clock() * 1000)
        sheet = await begin_export(order, wanted, form, now_ms=now_ms, by_day=by_day)
        progress = Progress()
        telling = asyncio.create_task(_tell(progress))
        try:
            if group is not None:
                return await share_export(order, sheet, group, progress)
            return await run_export(order, sheet, crew=crew, progress=progress)
        finally:
            telling.cancel()
            if sys.stderr.isatty():
                click.echo("\r\x1b[K", nl=False, err=True)


async def rehearse(ask: Ask, wanted: Wanted, into: str, speed: float | None) -> int:
    """Write the past into another topic, at a speed; the exit code."""
    replay = open_replay(
        ask.bus,
        ask.topic,
        pipeline=ask.pipeline,
        wanted=wanted,
        raw=True,
        export=ask.export,
        full_speed=True,
    )
    writer = KafkaWriter(client_options(ask.bus), into)
    async with replay as replayed:
        if replayed.plan.topic == into:
            raise SettingsError(f"{into!r} would be written into itself; name another topic")
        try:
            rehearsal = Rehearsal(replayed, writer, await writer.start(), speed=speed, by=wanted.by)
            done = await rehearsal.run()
        finally:
            await writer.stop()
    code = _left_out(replayed)
    click.echo(
        f"{done.sent:,} records of {replayed.plan.topic} written into {into}, "
        f"{done.late_s:.3f} s late at most"
    )
    return code


def _left_out(replayed: Replayed) -> int:
    """Say what was read and is in no row; the exit code."""
    warn(replayed.missing, len(replayed.unreadable), replayed.unreadable)
    if replayed.undated:
        click.echo(_undated(replayed.undated), err=True)
    return INCOMPLETE if replayed.missing or replayed.unreadable else 0


async def _tell(progress: Progress) -> None:
    """How far, how fast, how much longer."""
    is_terminal, began_s = sys.stderr.isatty(), time.monotonic()
    while True:
        await asyncio.sleep(TELL_S if is_terminal else TELL_SELDOM_S)
        line = progress_line(progress, time.monotonic() - began_s)
        click.echo(f"\r{line}\x1b[K" if is_terminal else line, err=True, nl=not is_terminal)


def progress_line(progress: Progress, seconds: float) -> str:
    """One line of progress.

    Example:
        >>> progress = Progress()
        >>> progress.total, progress.done = 1000, 250
        >>> progress_line(progress, 5.0)
        '[######                  ] 25 %  250 of 1,000 offsets  50/s  15 s left'
    """
    share = progress.done / max(progress.total, 1)
    rate = (progress.done - progress.resumed) / max(seconds, 1e-9)
    left = f"{(progress.total - progress.done) / rate:,.0f} s left" if rate else "starting"
    bar = "#" * round(24 * share)
    return (
        f"[{bar:<24}] {share:.0%}  {progress.done:,} of {progress.total:,} offsets  "
        f"{rate:,.0f}/s  {left}"
    ).replace("%", " %")


def show(report: Report, *, as_json: bool) -> int:
    """Totals on standard output, what is missing on standard error; the exit code."""
    warn(report.missing, report.unreadable, report.named)
    for note in report.notes:
        click.echo(f"note: {note}", err=True)
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(report)))
    else:
        click.echo(
            f"{report.rows:,} rows of {report.topic} in {report.files} files, "
            f"{report.bytes:,} bytes"
        )
        if report.undated:
            click.echo(_undated(report.undated))
    return 0 if report.is_whole else INCOMPLETE


def _undated(count: int) -> str:
    """Rows that could not be chosen by time."""
    return f"{count:,} without an event time were left out"


def warn(missing: Iterable[Missing], unreadable: int, named: Iterable[str]) -> None:
    """Say what is not in the table."""
    for one in missing:
        click.echo(f"missing ({one.why}): {one.line}", err=True)
    if unreadable:
        some = ", ".join(list(named)[:5])
        click.echo(
            f"unreadable: {unreadable} records are not what their topic carries: {some}", err=True
        )
