"""`headrace produce file`: events from a file."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click
import msgspec

from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.schemas.topics import topics_of
from headrace.streams.cli.context import load, pipeline_file, until_signal
from headrace.streams.cli.speed import Speed
from headrace.streams.client import Producer, Record
from headrace.streams.client.clock import wall_clock
from headrace.streams.client.contract import Contract
from headrace.streams.producers.file_place import Place, load_place, save_place
from headrace.streams.producers.file_rows import Rows, open_rows
from headrace.streams.producers.pace import Pace
from headrace.streams.producers.replay import Replay, Replayed

SAVE_S = 1.0
TELL_S, TELL_SELDOM_S = 1.0, 10.0
"""Between two lines of progress on a terminal, and elsewhere."""


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--pipeline", default="hosts", show_default=True, help="Pipeline to feed.")
@click.option(
    "--speed",
    type=Speed(),
    default="max",
    show_default=True,
    help="By the events' own times: 1x, 10x, max.",
)
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="Rows per second instead."
)
@click.option(
    "--shift-to-now",
    "shift",
    is_flag=True,
    help="New times: with a speed when each is due, else the newest is now.",
)
@click.option("--time-field", help="Path or column of the time, where not the pipeline's.")
@click.option(
    "--position",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep here how far it came, and go on from there.",
)
@click.option("--seconds", type=click.FloatRange(min=0), help="Stop after this long.")
@click.option("--strict", is_flag=True, help="Leave out what the pipeline would refuse.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object.")
def file(
    file: Path,
    pipeline: str,
    speed: float | None,
    rate: float | None,
    shift: bool,
    time_field: str | None,
    position: Path | None,
    seconds: float | None,
    strict: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """A file of events: NDJSON (bytes unchanged), CSV or Parquet (extra `tables`).

    Columns of a table are named as the pipeline's metrics, or by their paths in an event. Lines
    that are no events are counted and named by number; those of NDJSON are sent all the same, since
    judging them is the pipeline's business, unless --strict.
    """
    if speed is not None and rate is not None:
        raise click.UsageError("--speed and --rate exclude each other; give one of them")
    loaded = load_pipeline(pipeline_file(pipeline))
    rows = open_rows(file, loaded.input, time_field)
    try:
        newest_ms = _newest_ms(rows) if shift and speed is None else 0.0
        pace = Pace(
            speed=speed, rate_per_s=rate, shift=shift, newest_ms=newest_ms, now=wall_clock
        )  # fmt: skip
        replay = Replay(
            rows,
            pace,
            judge=_judge(loaded) if strict else None,
            now=wall_clock,
        )
        topic = topics_of(loaded).telemetry.name
        place = load_place(position, file, topic) if position else None
        done = asyncio.run(_run(loaded, replay, rows, place, position, seconds))
    finally:
        rows.close()
    _report(done, as_json)


async def _run(
    pipeline: Pipeline,
    replay: Replay,
    rows: Rows,
    place: Place | None,
    kept: Path | None,
    seconds: float | None,
) -> dict[str, Any]:
    stop, began_s = asyncio.Event(), time.monotonic()
    beside = [
        asyncio.create_task(_stop(stop, seconds)),
        asyncio.create_task(_tell(replay.done, rows.total, began_s)),
    ]

    def save() -> None:
        if place is not None and kept is not None:
            done = replay.done
            save_place(kept, msgspec.structs.replace(place, end=done.end, number=done.number))

    try:
        async with AsyncExitStack() as stack:
            producer = Producer(load().bus, pipeline, validate=False, trace=False)
            await stack.enter_async_context(producer)
            beside.append(asyncio.create_task(_often(save)))
            begin = (place.end, place.number) if place else (0, 0)
            done = await replay.run(producer, stop, begin=begin[0], number=begin[1])
        save()
    finally:
        for task in beside:
            task.cancel()
    return {
        "sent": done.sent,
        "bad": done.bad,
        "left_out": done.left_out,
        "bad_rows": [{"number": number, "fault": fault} for number, fault in done.named],
        "last_row": done.number,
        "seconds": round(time.monotonic() - began_s, 2),
        "late_s": round(done.late_s, 3),
        "stopped": stop.is_set(),
    }


async def _stop(stop: asyncio.Event, seconds: float | None) -> None:
    """Set `stop` at a signal, or in time."""
    try:
        async with asyncio.timeout(seconds):
            await until_signal()
    except TimeoutError:
        pass
    stop.set()


async def _often(save: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(SAVE_S)
        save()


async def _tell(done: Replayed, total: int, began_s: float) -> None:
    """Progress on standard error: how far, how fast, how much longer."""
    is_terminal = sys.stderr.isatty()
    while True:
        await asyncio.sleep(TELL_S if is_terminal else TELL_SELDOM_S)
        line = progress(done, total, time.monotonic() - began_s)
        click.echo(f"\r{line}\x1b[K" if is_terminal else line, err=True, nl=not is_terminal)


def progress(done: Replayed, total: int, seconds: float) -> str:
    """One line of progress.

    Example:
        >>> progress(Replayed(sent=5000, bad=2, end=50, begun=0), 200, 10.0)
        '25 %  5,000 events  500/s  30 s left  2 bad'
    """
    share = (done.end - done.begun) / max(total - done.begun, 1)
    left = f"{seconds * (1 - share) / share:,.0f} s left" if share > 0 else "waiting for the first"
    rate = done.sent / max(seconds, 1e-9)
    return f"{share:.0%}  {done.sent:,} events  {rate:,.0f}/s  {left}  {done.bad} bad".replace(
        "%", " %", 1
    )


def _newest_ms(rows: Rows) -> float:
    """The newest time in the file, milliseconds since 1970; 0 where none has a time."""
    return max((row.at_ms for row in rows.read() if row.at_ms is not None), default=0.0)


def _judge(pipeline: Pipeline) -> Callable[[list[Record]], dict[int, str]]:
    """The pipeline's own judgement of records."""
    contract = Contract(pipeline)

    def judge(records: list[Record]) -> dict[int, str]:
        values = [record.value for record in records]
        return contract.refused(values, wall_clock() * 1000)

    return judge


def _report(done: dict[str, Any], as_json: bool) -> None:
    """Bad rows on standard error, totals at the end."""
    for row in done["bad_rows"]:
        click.echo(f"row {row['number']} {row['fault']}", err=True)
    if done["bad"] > len(done["bad_rows"]):
        click.echo(f"and {done['bad'] - len(done['bad_rows'])} more", err=True)
    if as_json:
        click.echo(json.dumps(done))
    else:
        shown = ("sent", "bad", "left_out", "last_row", "seconds", "late_s")
        click.echo("  ".join(f"{name} {done[name]}" for name in shown))
