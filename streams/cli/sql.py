"""`headrace sql`: SQL over live topics and exports."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from headrace.schemas.errors import HeadraceError
from headrace.schemas.topics import topics_of
from headrace.streams.cli.context import load, pipeline_file
from headrace.streams.cli.deadletter import Since
from headrace.streams.cli.past import wanted_range
from headrace.streams.cli.replay_show import INCOMPLETE, plain, warn
from headrace.streams.cli.running import run
from headrace.streams.replay.ask import Ask
from headrace.streams.replay.query import Answer, Database
from headrace.streams.replay.ranges import Clock

SHOWN = 40
"""Rows of a table on a terminal; all of them with --json or --out."""

_HELP = ".tables lists what may be queried, .refresh reads topics anew, .quit or Ctrl-D ends"


@click.command()
@click.argument("query", default="")
@click.option("--pipeline", "-p", default="hosts", show_default=True, help="Whose topics.")
@click.option("--export", "exports", multiple=True, help="NAME=FOLDER: an export as a table.")
@click.option("--from", "start", type=Since(), help="Topics since this age (2h) or time.")
@click.option("--to", "stop", type=Since(), help="Topics before this age or time.")
@click.option(
    "--by", type=click.Choice(["event", "broker"]), default="event", show_default=True,
    help="Whose time: the device's or the broker's.",
)  # fmt: skip
@click.option("--full-speed", is_flag=True, help="Read topics as fast as it goes.")
@click.option("--raw", is_flag=True, help="Add key, value and headers of each record.")
@click.option(
    "--out", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write .parquet or .csv."
)
@click.option("--json", "as_json", is_flag=True, help="Each row as one JSON object.")
def sql(
    query: str,
    pipeline: str,
    exports: tuple[str, ...],
    start: float | None,
    stop: float | None,
    by: Clock,
    full_speed: bool,
    raw: bool,
    out: Path | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Run QUERY over telemetry, features, predictions, summaries, deadletter, late, and exports.

    Without QUERY, a prompt. Topics are read when a query first names them, beside everything live.
    """
    file = pipeline_file(pipeline)
    ask = Ask(bus=load().bus, pipeline=str(file), raw=raw)
    wanted = wanted_range(start, stop, by, None)
    loaded = ask.load()
    roles = {} if loaded is None else {spec.stage: spec.stage for spec in topics_of(loaded).all()}
    folders = dict(map(_export, exports))
    roles = {name: role for name, role in roles.items() if name not in folders}
    database = Database(ask, roles, folders, wanted, full_speed=full_speed)
    try:
        if query:
            return _once(database, query, out, as_json=as_json)
        if not sys.stdin.isatty():
            return _once(database, sys.stdin.read(), out, as_json=as_json)
        _prompt(database, [*roles, *folders], as_json=as_json)
        return 0
    finally:
        database.close()


def _export(text: str) -> tuple[str, Path]:
    name, found, path = text.partition("=")
    if not found or not name or not path:
        raise click.UsageError(f"{text!r} names no export, expected NAME=FOLDER")
    return name, Path(path)


def _once(database: Database, query: str, out: Path | None, *, as_json: bool) -> int:
    """One query; the exit code."""
    whole = _read(database, query)
    if out is None:
        _show(database.ask(query), as_json=as_json)
    else:
        database.write(query, out)
    return 0 if whole else INCOMPLETE


def _read(database: Database, query: str) -> bool:
    """Read the topics that a query names; whether all of them were whole."""
    for name in database.needed(query):
        report = run(database.read(name))
        if report is None:
            raise click.Abort
        warn(report.missing, report.unreadable, report.named)
    return all(report.is_whole for report in database.reports.values())


def _prompt(database: Database, tables: Iterable[str], *, as_json: bool) -> None:
    """Queries from the terminal, each ended by a semicolon."""
    import readline as _  # noqa: F401 - editing and history, where it is imported

    click.echo(_HELP)
    commands: dict[str, Callable[[], object]] = {
        ".tables": lambda: click.echo("  ".join(tables)),
        ".refresh": database.refresh,
        ".help": lambda: click.echo(_HELP),
    }
    held = ""
    while True:
        try:
            line = input("   ...> " if held else "headrace> ")
        except EOFError:
            return
        except KeyboardInterrupt:
            held = ""
            click.echo()
            continue
        if not held and line.strip() in (".quit", ".exit"):
            return
        if not held and line.strip() in commands:
            commands[line.strip()]()
            continue
        held += line + "\n"
        if held.strip() and held.rstrip().endswith(";"):
            try:
                _once(database, held, None, as_json=as_json)
            except HeadraceError as error:
                click.echo(str(error), err=True)
            held = ""


def _show(answer: Answer, *, as_json: bool) -> None:
    if as_json:
        for row in answer.rows():
            click.echo(json.dumps(dict(zip(answer.names, row, strict=True)), default=plain))
        return
    shown: list[tuple[Any, ...]] = []
    more = 0
    for row in answer.rows():
        if len(shown) < SHOWN:
            shown.append(row)
        else:
            more += 1
    for line in columns(answer.names, shown):
        click.echo(line)
    if more:
        click.echo(f"and {more:,} rows more; all of them with --json or --out")


def columns(names: list[str], rows: list[tuple[Any, ...]]) -> list[str]:
    """Rows as lines of aligned columns.

    Example:
        >>> columns(["label", "n"], [("normal", 12), (None, 3)])
        ['label   n', 'normal  12', 'null    3']
    """
    texts = [names, *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return ["  ".join(t.ljust(w) for t, w in zip(r, widths, strict=True)).rstrip() for r in texts]


def _cell(value: Any) -> str:
    if value is None:
        return "null"
    return f"{value:.6g}" if isinstance(value, float) else str(plain(value))
