"""`headrace deadletter`: list dead letters, look at one, put them back."""

from __future__ import annotations

import json
import re
from contextlib import aclosing
from datetime import datetime
from typing import Any

import click
import msgspec

from headrace.schemas.deadletter import parse_source
from headrace.schemas.errors import Source, TopicError
from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.schemas.settings import BusSettings
from headrace.schemas.topics import topics_of
from headrace.streams.cli.context import load, pipeline_file
from headrace.streams.cli.deadletter_view import letter_lines, tally_lines
from headrace.streams.cli.running import run
from headrace.streams.client.clock import wall_clock
from headrace.streams.client.deadletter_tally import Tally
from headrace.streams.client.deadletters import (
    DeadLetter,
    Wanted,
    read_letter,
    redriven,
    selected,
)
from headrace.streams.client.redrive import Redrive
from headrace.streams.client.redrive_report import outcome_lines

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Since(click.ParamType):
    """An age (``90s``, ``30m``, ``2h``, ``7d``) or an RFC 3339 time, as milliseconds since 1970."""

    name = "age|time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """See the class."""
        age = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([smhd])", str(value))
        if age is not None:
            return (wall_clock() - float(age[1]) * _SECONDS[age[2]]) * 1000
        try:
            time = datetime.fromisoformat(str(value))
        except ValueError:
            time = None
        if time is None or time.tzinfo is None:
            self.fail(
                f"{value!r} is neither an age such as 2h nor a time such as 2026-11-21T10:00:00Z",
                param,
                ctx,
            )
        return time.timestamp() * 1000


_pipeline = click.argument("pipeline", default="hosts")
_since = click.option("--since", type=Since(), help="Dead since then: 2h, or a time.")
_reason = click.option("--reason", help="Only of this code.")
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object instead.")
_COUNT = click.IntRange(min=1)


@click.group()
def deadletter() -> None:
    """List dead letters, look at one, put them back."""


@deadletter.command("list")
@_pipeline
@_since
@_reason
@click.option("--stage", help="Only of this stage.")
@click.option("--limit", type=_COUNT, default=20, show_default=True, help="Newest to name.")
@_json
def list_letters(
    pipeline: str,
    since: float | None,
    reason: str | None,
    stage: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """How many there are of each reason, and the newest by name; never their content."""
    loaded = load_pipeline(pipeline_file(pipeline))
    wanted = Wanted(since_ms=since, reason=reason, stage=stage)
    tally = run(_tally(load().bus, loaded, wanted, limit))
    if tally is None:
        return
    if as_json:
        click.echo(json.dumps(tally.facts(wall_clock())))
        return
    for line in tally_lines(tally, wall_clock()):
        click.echo(line)


async def _tally(bus: BusSettings, pipeline: Pipeline, wanted: Wanted, limit: int) -> Tally:
    tally = Tally(limit, await redriven(bus, pipeline, wanted))
    async with aclosing(selected(bus, pipeline, wanted)) as batches:
        async for batch in batches:
            tally.add(batch)
    return tally


@deadletter.command()
@_pipeline
@click.argument("place")
@click.option("--raw", is_flag=True, help="The original bytes alone, untouched.")
@_json
def show(pipeline: str, place: str, raw: bool, as_json: bool) -> None:
    """One dead letter whole: raw content. PLACE is topic[partition]@offset or partition@offset."""
    if raw and as_json:
        raise click.UsageError("--raw and --json are two forms of one thing, expected one of them")
    loaded = load_pipeline(pipeline_file(pipeline))
    at = _place(place, topics_of(loaded).deadletter.name)
    letter = run(_read(load().bus, at))
    if letter is None:
        return
    if raw:
        click.get_binary_stream("stdout").write(letter.value)
    elif as_json:
        click.echo(json.dumps(msgspec.to_builtins(letter)))
    else:
        for line in letter_lines(letter, wall_clock()):
            click.echo(line)


def _place(text: str, topic: str) -> Source:
    """Coordinates on the dead-letter topic, whose name may be left out."""
    try:
        at = parse_source(text)
    except ValueError:
        short = re.fullmatch(r"(\d{1,9})@(\d{1,18})", text)
        if short is None:
            raise click.UsageError(
                f"{text!r} names no dead letter, expected topic[partition]@offset or "
                f"partition@offset as deadletter list prints them"
            ) from None
        return Source(topic, int(short[1]), int(short[2]))
    if at.topic != topic:
        raise click.UsageError(f"{text!r} is on another topic, expected one of {topic!r}")
    return at


async def _read(bus: BusSettings, at: Source) -> DeadLetter:
    letter = await read_letter(bus, at)
    if letter is None:
        raise TopicError(
            f"looking for dead letter {at} found none there; see what there is with: "
            f"headrace deadletter list"
        )
    return letter


@deadletter.command()
@_pipeline
@_since
@_reason
@click.option("--limit", type=_COUNT, help="Most to put back.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@_json
def redrive(
    pipeline: str,
    since: float | None,
    reason: str | None,
    limit: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Publish dead letters of ENRICH again where they came from, each once.

    SERVE's are left: it counts a refused row as served, so it would drop it. Mend the cause
    first: what dies again has one try less.
    """
    loaded = load_pipeline(pipeline_file(pipeline))
    wanted = Wanted(since_ms=since, reason=reason)
    outcome = run(Redrive(load().bus, loaded, wanted, limit=limit).run(dry=dry_run))
    if outcome is None:
        return
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, **msgspec.to_builtins(outcome)}))
        return
    for line in outcome_lines(outcome, loaded, dry=dry_run):
        click.echo(line)
