"""`headrace demo`: the whole path on this machine's own telemetry, watched live.

Little is imported here: bus and store start first (`meanwhile`).
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import click

from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.schemas.settings import Settings
from headrace.streams.cli.context import load, pipeline_file
from headrace.streams.sites.meanwhile import begun

PLAIN_SECONDS = 20.0
"""How long the demo runs where nobody watches a terminal."""

RUN = "headrace.streams.cli.demo_run"


@click.command()
@click.argument("pipeline", default="hosts")
@click.option("--seconds", type=float, help="End after this long; default 20 without a terminal.")
@click.option("--rate", type=float, default=10.0, show_default=True, help="Readings per second.")
@click.option("--disturb", is_flag=True, help="Burn CPU for a moment, to see it caught.")
@click.option("--json", "as_json", is_flag=True, help="Last line of output is one JSON object.")
def demo(pipeline: str, seconds: float | None, rate: float, disturb: bool, as_json: bool) -> int:
    """Run the whole path on this machine's own telemetry and watch it.

    Bus and store are those of the settings, by default embedded ones that end with the command.
    Exit code 0 only if something was predicted and nothing was lost or doubled.
    """
    file = pipeline_file(pipeline)
    settings, parsed = load(), load_pipeline(file)
    watched = sys.stdout.isatty() and not as_json
    if seconds is None and not watched:
        seconds = PLAIN_SECONDS
    how = {"rate_hz": rate, "disturb": disturb, "watched": watched}
    report = asyncio.run(_run(file, parsed, settings, seconds, how))
    if as_json:
        click.echo(json.dumps(report))
    good = report["predictions_out"] > 0 and report["lost"] == 0 and report["duplicated"] == 0
    return 0 if good else 1


async def _run(
    file: Path, pipeline: Pipeline, settings: Settings, seconds: float | None, how: dict[str, Any]
) -> dict[str, Any]:
    async with begun(settings, RUN) as (backing, spawner):
        from headrace.streams.cli.demo_run import Demo

        run = Demo(file, pipeline, settings, backing, spawner, **how)
        return await run.run(seconds)
