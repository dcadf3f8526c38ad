"""`headrace produce host`: this machine's own telemetry."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack

import click

from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.streams.cli.context import load, pipeline_file
from headrace.streams.cli.running import run
from headrace.streams.client import Producer
from headrace.streams.client.clock import wall_clock
from headrace.streams.producers.produce import Produced, Source
from headrace.streams.producers.produce import produce as drive


@click.command()
@click.option("--pipeline", default="hosts", show_default=True, help="Pipeline to feed.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Samples per second.",
)
@click.option("--prefix", default="", help="Put before every device id, to tell machines apart.")
@click.option("--seconds", type=click.FloatRange(min=0), help="Stop after this long.")
@click.option("--strict", is_flag=True, help="Refuse events the pipeline would refuse.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object.")
def host(
    pipeline: str, rate: float, prefix: str, seconds: float | None, strict: bool, as_json: bool
) -> None:
    """This machine: its cores, disks, network interfaces, busiest processes and itself."""
    loaded = load_pipeline(pipeline_file(pipeline))
    # Needs psutil, which only this command does.
    from headrace.streams.producers.host import HostSource

    source = HostSource(wall_clock, prefix=prefix)
    _report(run(_drive(loaded, source, rate, seconds, strict=strict)), as_json)


async def _drive(
    pipeline: Pipeline, source: Source, rate: float, seconds: float | None, *, strict: bool
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
