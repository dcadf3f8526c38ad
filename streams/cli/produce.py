"""`headrace produce`: send telemetry into a pipeline."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path

import click

from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.streams.cli.context import load, pipeline_file
from headrace.streams.cli.running import run
from headrace.streams.client import Producer
from headrace.streams.client.clock import wall_clock
from headrace.streams.producers.produce import Produced, Source
from headrace.streams.producers.produce import produce as drive

_pipeline = click.option("--pipeline", default="hosts", show_default=True, help="Pipeline to feed.")
_seconds = click.option("--seconds", type=click.FloatRange(min=0), help="Stop after this long.")
_strict = click.option("--strict", is_flag=True, help="Refuse events the pipeline would refuse.")
_json = click.option("--json", "as_json", is_flag=True, help="End with one JSON object.")
_RATE = click.FloatRange(min=0, min_open=True)


@click.group()
def produce() -> None:
    """Send telemetry: this machine's, or a file."""


@produce.command()
@_pipeline
@click.option("--rate", type=_RATE, default=10.0, show_default=True, help="Samples per second.")
@click.option("--prefix", default="", help="Put before every device id, to tell machines apart.")
@_seconds
@_strict
@_json
def host(
    pipeline: str, rate: float, prefix: str, seconds: float | None, strict: bool, as_json: bool
) -> None:
    """This machine: its cores, disks, network interfaces, busiest processes and itself."""
    loaded = load_pipeline(pipeline_file(pipeline))
    # Needs psutil, which only this command does.
    from headrace.streams.producers.host import HostSource

    source = HostSource(wall_clock, prefix=prefix)
    _report(run(_drive(loaded, source, rate, seconds, strict=strict)), as_json)


@produce.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_pipeline
@click.option("--rate", type=_RATE, help="Readings of 1000 lines per second; as fast as it goes.")
@_seconds
@_strict
@_json
def file(
    file: Path,
    pipeline: str,
    rate: float | None,
    seconds: float | None,
    strict: bool,
    as_json: bool,
) -> None:
    """A file of one JSON object per line, its bytes unchanged.

    Lines that are no events go too, unless --strict: judging them is the pipeline's business.
    """
    loaded = load_pipeline(pipeline_file(pipeline))
    from headrace.streams.producers.files import FileSource

    with FileSource(file, entity=loaded.input.entity) as source:
        done = run(_drive(loaded, source, rate, seconds, strict=strict))
    _report(done, as_json)


async def _drive(
    pipeline: Pipeline, source: Source, rate: float | None, seconds: float | None, *, strict: bool
) -> Produced:
    async with AsyncExitStack() as stack:
        producer = Producer(load().bus, pipeline, validate=strict, trace=False)
        await stack.enter_async_context(producer)
        return await drive(source, producer, rate_hz=rate, seconds=seconds)


def _report(done: Produced | None, as_json: bool) -> None:
    """Say what was sent; a run that a signal ended has no totals."""
    if done is None:
        facts: dict[str, object] = {"stopped": True}
    else:
        facts = {
            "sent": done.sent,
            "dropped": done.dropped,
            "skipped": done.skipped,
            "late_s": round(done.late_s, 3),
        }
    if as_json:
        click.echo(json.dumps(facts))
    elif done is not None:
        click.echo("  ".join(f"{name} {value}" for name, value in facts.items()))
