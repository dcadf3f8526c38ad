"""`headrace produce fleet`: a seeded fleet of devices under load."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.schemas.topics import topics_of
from headrace.streams.cli.context import load, pipeline_file, until_signal
from headrace.streams.client.clock import wall_clock
from headrace.streams.client.connect import bus_of
from headrace.streams.producers.arrivals import Pattern
from headrace.streams.producers.plan import Plan
from headrace.streams.producers.run_fleet import FleetRun

F = TypeVar("F", bound=Callable[..., Any])

_PLAN = Plan()
_File = click.Path(dir_okay=False, path_type=Path)


def _planned(name: str, what: str, low: float = 0, high: float | None = 0.5) -> Callable[[F], F]:
    """An option that is a number of the plan; its default is the plan's."""
    default = getattr(_PLAN, name)
    kind = click.IntRange if isinstance(default, int) else click.FloatRange
    flag = "--" + name.removesuffix("_per_s").replace("_", "-")
    return click.option(
        flag, name, type=kind(low, high), default=default, show_default=True, help=what
    )


@click.command()
@click.option("--pipeline", default="hosts", show_default=True, help="Pipeline to feed.")
@_planned("devices", "Of all kinds together.", 1, None)
@_planned("rate_per_s", "Events per second of all together.", 1e-3, None)
@_planned("seconds", "How long.", 0, None)
@click.option(
    "--pattern",
    type=click.Choice(get_args(Pattern)),
    default=_PLAN.pattern,
    show_default=True,
    help="bursty: ten times the rate from second 30 to 60 of every 120.",
)
@_planned("skew", "Zipf exponent of the devices of a kind; 0: all alike.", 0, None)
@_planned("repeats", "Share of events sent twice.")
@_planned("late", "Share of events that are too late.")
@_planned("future", "Share by a clock half a century ahead.")
@_planned("out_of_order", "Share that the device's next overtake.")
@_planned("gaps", "Share of the time in which readings are lost.")
@_planned("anomalies", "Share of stretches of 40 readings with an anomaly.")
@_planned("seed", "The same seed and start give the same bytes.", 0, None)
@click.option("--start", help="When the run began (RFC 3339); what is due is sent. Default: now.")
@click.option("--ledger", type=_File, help="Each event and its fate: .ndjson, .parquet (`tables`).")
@click.option("--to", type=_File, help="Write the events into this file, at once, and to no bus.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object.")
def fleet(
    pipeline: str, start: str | None, ledger: Path | None, to: Path | None, as_json: bool,
    **asked: Any,
) -> None:  # fmt: skip
    """A fleet of phones, industrial PCs, cameras, gateways and sensors, made from a seed.

    Open loop: every event has a time at which it is to be sent, and how far the sender itself fell
    behind is reported. Anomalies, repeats, late events, gaps and the like are planted; the ledger
    says of each event what it is and what must become of it (headrace produce check).
    """
    loaded = load_pipeline(pipeline_file(pipeline))
    plan = Plan(**asked)
    start_ms = round(wall_clock() * 1000) if start is None else _time_ms(start)
    work = FleetRun(plan, loaded, start_ms, ledger)
    done = work.to_file(to) if to else asyncio.run(_send(work, loaded))
    click.echo(json.dumps(done) if as_json else _told(done))


async def _send(work: FleetRun, pipeline: Pipeline) -> dict[str, Any]:
    """Send until the end; a signal ends it early, in order."""
    stop = asyncio.Event()

    async def listen() -> None:
        await until_signal()
        stop.set()

    listening = asyncio.create_task(listen())
    try:
        writer = bus_of(load().bus).writer(topics_of(pipeline).telemetry.name)
        return await work.to_topic(writer, wall_clock, stop)
    finally:
        listening.cancel()


def _time_ms(start: str) -> int:
    try:
        at = datetime.fromisoformat(start)
    except ValueError as error:
        raise click.BadParameter(
            f"{start!r} is no time, expected one like 2026-11-21T10:00:00Z", param_hint="--start"
        ) from error
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _told(done: dict[str, Any]) -> str:
    """The report for people, one fact a line."""
    lines = []
    for name, fact in done.items():
        text = "  ".join(f"{k} {v}" for k, v in fact.items()) if isinstance(fact, dict) else fact
        lines.append(f"{name:<17} {text}")
    return "\n".join(lines)
