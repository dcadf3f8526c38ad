"""`headrace up`: run pipelines until they are told to stop."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import click
import msgspec

from headrace.schemas.errors import FatalError
from headrace.schemas.pipeline import load_pipeline
from headrace.streams.cli.context import load, pipeline_file, until_signal
from headrace.streams.console.door import Console
from headrace.streams.health.server import HealthServer
from headrace.streams.sites.several import Sites
from headrace.streams.workers.jobs import ALL_STAGES, Endpoints, Status

LINE_EVERY_S = 5.0


@click.command()
@click.argument("pipelines", nargs=-1, metavar="[PIPELINE]...")
@click.option(
    "--stages", default=",".join(ALL_STAGES), show_default=True, help="Stages to run here."
)
@click.option("--workers", type=click.IntRange(1, 64), default=1, help="Processes of each stage.")
@click.option("--from", "start", help="Where to begin what was never read: earliest, latest, time.")
@click.option("--json", "as_json", is_flag=True, help="Status lines as JSON objects.")
def up(
    pipelines: tuple[str, ...], stages: str, workers: int, start: str | None, as_json: bool
) -> None:
    """Run pipelines on the bus and store of the settings until they are told to stop.

    Without a name: `hosts`. One process per pipeline and stage; what crashes is started again,
    what is set up wrongly ends its own pipeline, and the command when it was the last one.
    """
    chosen = [stage.strip() for stage in stages.split(",")]
    for stage in chosen:
        if stage not in ALL_STAGES:
            raise click.UsageError(f"stage {stage!r} is none of {', '.join(ALL_STAGES)}")
    files = [pipeline_file(name) for name in pipelines or ("hosts",)]
    asyncio.run(_run(files, chosen, workers, start, as_json=as_json))


async def _run(
    files: list[Path], stages: list[str], workers: int, start: str | None, *, as_json: bool
) -> None:
    pipelines, settings = [(file, load_pipeline(file)) for file in files], load()
    place = settings.health.place()
    sites = Sites(pipelines, settings, stages=stages, workers=workers, start=start)
    health = HealthServer(sites.health, sites.metrics, sites.view)
    console = Console(settings.console, sites.shown)
    try:
        if place is not None:
            # Before the services: a probe learns that they are what is waited for.
            click.echo(f"health: {await health.start(*place)}/healthz")
        endpoints = await sites.start()
        click.echo(_exported(endpoints))
        if (url := console.listen()) is not None:
            click.echo(f"console: {url}")
        failing = asyncio.create_task(sites.failed())
        stopped = asyncio.create_task(until_signal())
        showing = [
            asyncio.create_task(_show(name, sites, as_json=as_json)) for name in sites.running
        ]
        await asyncio.wait({failing, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for task in (*showing, stopped):
            task.cancel()
        if failing.done():
            failing.result()
        failing.cancel()
        sites.check()
    finally:
        await console.stop()
        await sites.stop()
        await health.stop()


async def _show(name: str, sites: Sites, *, as_json: bool) -> None:
    """Lines of one pipeline, until it ends."""
    supervisor = sites.running[name].supervisor
    # Why it is not ready is told elsewhere.
    with suppress(FatalError):
        await supervisor.ready()
        click.echo(f"ready: {', '.join(worker.name for worker in supervisor.workers)}")
        while name not in sites.ended:
            await asyncio.sleep(LINE_EVERY_S)
            for worker in supervisor.workers:
                if (status := worker.status) is not None:
                    click.echo(_json(name, status) if as_json else _line(worker.name, status))


def _exported(endpoints: Endpoints) -> str:
    """What leads another command to the same bus and store."""
    places = f"HEADRACE_BUS={endpoints.bus.url} HEADRACE_STORE={endpoints.store.url}"
    # An address does not tell an embedded bus, on which groups have other timings. Said either way:
    # the terminal may have been led to an embedded one before.
    kind = "embedded" if endpoints.embedded else "auto"
    return f"export {places} HEADRACE_BUS_KIND={kind}"


def _json(pipeline: str, status: Status) -> str:
    return msgspec.json.encode({"pipeline": pipeline, **msgspec.structs.asdict(status)}).decode()


def _line(worker: str, status: Status) -> str:
    events = "  ".join(f"{name} {count}" for name, count in status.events.items())
    return f"{worker}: {events}  lag {status.lag}  {status.rss_mb:.0f} MB"
