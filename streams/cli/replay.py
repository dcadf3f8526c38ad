"""`headrace replay`: the past of a topic, as rows, a table, or events once more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from headrace.streams.cli.context import load, pipeline_file
from headrace.streams.cli.deadletter import Since
from headrace.streams.cli.lazy import Lazy, LazyGroup
from headrace.streams.cli.past import give_way
from headrace.streams.cli.replay_show import (
    INCOMPLETE,
    export_with_progress,
    print_rows,
    rehearse,
    show,
)
from headrace.streams.cli.running import run
from headrace.streams.cli.speed import Speed
from headrace.streams.replay.ask import Ask
from headrace.streams.replay.ranges import Wanted, parse_offsets
from headrace.streams.replay.throttle import GENTLE_BYTES_PER_S
from headrace.streams.replay.worker import Order

_AT = "headrace.streams.cli.replay_"
WORKS: dict[str, Lazy] = {
    "reproduce": Lazy(_AT + "reproduce:command", "Compute what was served anew; compare each bit."),
    "whatif": Lazy(_AT + "whatif:command", "Old events by another model, threshold or pipeline."),
}
"""Commands below `replay`; any other first word is a topic."""


class _Replay(LazyGroup):
    """`headrace replay reproduce …` is a command, `headrace replay predictions …` a topic."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See the class."""
        if args and args[0] in self.lazy:
            return super().resolve_command(ctx, args)
        return "", table, args


@click.command(
    cls=_Replay,
    lazy=WORKS,
    context_settings={"ignore_unknown_options": True},
    add_help_option=False,
    invoke_without_command=True,
)
@click.pass_context
def replay(ctx: click.Context) -> None:
    """The past of a topic: rows, tables, and events once more."""
    if ctx.invoked_subcommand is None:
        raise click.UsageError("which topic? name a role such as predictions, or a topic", ctx)


@click.command(
    name="replay",
    epilog="Also: headrace replay reproduce PIPELINE, headrace replay whatif PIPELINE.",
)
@click.argument("topic", default="")
@click.option("--pipeline", "-p", default="hosts", show_default=True, help="Whose topic it is.")
@click.option("--from", "start", type=Since(), help="Since this age (2h) or time.")
@click.option("--to", "stop", type=Since(), help="Before this age (2h) or time.")
@click.option(
    "--by",
    type=click.Choice(["event", "broker"]),
    default="event",
    show_default=True,
    help="Whose time: the device's, or the broker's (reads no more than the stretch).",
)
@click.option("--offsets", help="Of each partition FIRST-STOP: 0:100-200,1:50-")
@click.option("--device", "devices", multiple=True, help="Only of this one; may be repeated.")
@click.option("--id", "prediction", help="Only what belongs to this prediction id.")
@click.option("--out", "-o", type=click.Path(file_okay=False, path_type=Path), help="Folder.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["parquet", "arrow", "csv"]),
    default="parquet",
    show_default=True,
    help="Of the files in --out.",
)
@click.option("--by-day", is_flag=True, help="A folder for each day of --by, UTC (Parquet).")
@click.option("--raw", is_flag=True, help="Add key, value and headers as they were read.")
@click.option(
    "--export",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Read this export instead of the bus.",
)
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Most records a second.")
@click.option("--full-speed", is_flag=True, help="Read as fast as it goes.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes; at full speed one a core.")
@click.option("--group", help="Share the work with all that name this group and this folder.")
@click.option("--into", help="Write the records into this topic instead, at --speed.")
@click.option(
    "--speed",
    "times",
    type=Speed(),
    default="1x",
    show_default=True,
    help="Of --into, by the times of --by: 1x, 10x, max.",
)
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object.")
def table(
    topic: str,
    pipeline: str,
    start: float | None,
    stop: float | None,
    by: Any,
    offsets: str | None,
    devices: tuple[str, ...],
    prediction: str | None,
    out: Path | None,
    form: Any,
    by_day: bool,
    raw: bool,
    export: Path | None,
    rate: float | None,
    full_speed: bool,
    workers: int | None,
    group: str | None,
    into: str | None,
    times: float | None,
    as_json: bool,
) -> int:  # fmt: skip
    """The past of TOPIC (telemetry, features, predictions, …, or any topic's name).

    Read beside everything live: no consumer group, store or cache is touched. Without --out, rows
    are printed as JSON lines. With it, files are written; run the same again to go on after an
    interruption. What was asked for and is not to be had is said, and ends with 3.
    """
    if into is not None and (out is not None or group is not None):
        raise click.UsageError("--into writes a topic, --out and --group files; choose one")
    if group is not None and out is None:
        raise click.UsageError("--group shares a folder; name it with --out")
    if by_day and (out is None or form != "parquet"):
        raise click.UsageError("--by-day lays out folders of Parquet files; name one with --out")
    if not topic and export is None:
        raise click.UsageError("which topic? name a role such as predictions, or a topic")
    if rate is not None and full_speed:
        raise click.UsageError("--rate and --full-speed exclude each other; give one of them")
    wanted = Wanted(
        by=by,
        start_ms=None if start is None else round(start),
        stop_ms=None if stop is None else round(stop),
        offsets=None if offsets is None else parse_offsets(offsets),
        devices=devices,
        prediction=prediction,
    )
    ask = Ask(
        bus=load().bus,
        topic=topic,
        pipeline=str(pipeline_file(pipeline)) if pipeline else None,
        export=None if export is None else str(export.resolve()),
        raw=raw,
    )
    gentle = not full_speed and rate is None and export is None
    order = Order(
        ask=ask,
        folder="" if out is None else str(out.resolve()),
        bytes_per_s=GENTLE_BYTES_PER_S if gentle else None,
        rows_per_s=rate,
    )
    give_way(full_speed=full_speed or into is not None)
    if into is not None:
        return run(rehearse(ask, wanted, into, times)) or 0
    if out is None:
        return run(print_rows(ask, wanted, full_speed=full_speed)) or 0
    count = workers or (1 if order.is_gentle else len(os.sched_getaffinity(0)))
    report = run(export_with_progress(order, wanted, form, count, group, by_day=by_day))
    if report is None:
        click.echo("stopped; run the same again to go on", err=True)
        return INCOMPLETE
    return show(report, as_json=as_json)
