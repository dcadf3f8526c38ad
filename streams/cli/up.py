"""`headrace up`: run a pipeline until it is told to stop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
import msgspec

from headrace.schemas.pipeline import load_pipeline
from headrace.streams.assembly import Site
from headrace.streams.cli.context import load, pipeline_file, until_signal
from headrace.streams.health.server import HealthServer
from headrace.streams.jobs import STAGES, Status

LINE_EVERY_S = 5.0


@click.command()
@click.argument("pipeline", default="hosts")
@click.option("--stages", default=",".join(STAGES), show_default=True, help="Stages to run here.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, help="Processes of each stage.")
@click.option("--from", "start", help="Where to begin what was never read: earliest, latest, time.")
@click.option("--json", "as_json", is_flag=True, help="Status lines as JSON objects.")
def up(pipeline: str, stages: str, workers: int, start: str | None, as_json: bool) -> None:
    """Run a pipeline on the bus and store of the settings until it is told to stop.

    One process per stage; what crashes is started again, what is set up wrongly ends the command.
    """
    chosen = [stage.strip() for stage in stages.split(",")]
    for stage in chosen:
        if stage not in STAGES:
            raise click.UsageError(f"stage {stage!r} is none of {', '.join(STAGES)}")
    file = pipeline_file(pipeline)
    asyncio.run(_run(file, chosen, workers, start, as_json=as_json))


async def _run(
    file: Path, stages: list[str], workers: int, start: str | None, *, as_json: bool
) -> None:
    pipeline, settings = load_pipeline(file), load()
    place = settings.health.place()
    latest: dict[str, Status] = {}
    site = Site(
        file,
        pipeline,
        settings,
        stages=stages,
        workers=workers,
        start=start,
        on_status=lambda status: latest.__setitem__(status.stage, status),
    )
    health = HealthServer(site.health)
    try:
        if place is not None:
            # Before the services: a probe learns that they are what is waited for.
            click.echo(f"health: {await health.start(*place)}/healthz")
        endpoints = await site.start()
        click.echo(f"export HEADRACE_BUS={endpoints.bus.url} HEADRACE_STORE={endpoints.store.url}")
        failing = asyncio.create_task(site.failed())
        stopped = asyncio.create_task(until_signal())
        showing = asyncio.create_task(_show(site, latest, as_json=as_json))
        await asyncio.wait({failing, stopped}, return_when=asyncio.FIRST_COMPLETED)
        showing.cancel()
        stopped.cancel()
        if failing.done():
            failing.result()
        failing.cancel()
    finally:
        await site.stop()
        await health.stop()


async def _show(site: Site, latest: dict[str, Status], *, as_json: bool) -> None:
    await site.supervisor.ready()
    click.echo(f"ready: {', '.join(worker.name for worker in site.supervisor.workers)}")
    while True:
        await asyncio.sleep(LINE_EVERY_S)
        for status in latest.values():
            click.echo(msgspec.json.encode(status).decode() if as_json else _line(status))


def _line(status: Status) -> str:
    events = "  ".join(f"{name} {count}" for name, count in status.events.items())
    return f"{status.stage}: {events}  lag {status.lag}  {status.rss_mb:.0f} MB"
