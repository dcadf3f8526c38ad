"""`headrace features backfill`: the state of new features, made beside the live ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec

from headrace.feature_store.open import open_store
from headrace.feature_store.snapshot_places import open_snapshots
from headrace.schemas.errors import SettingsError
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.settings import Settings
from headrace.streams.cli.context import load, pipeline_file
from headrace.streams.cli.past import Progress, give_way
from headrace.streams.cli.running import run
from headrace.streams.client.clock import wall_clock
from headrace.streams.replay.backfill import Filled, backfill, new_views
from headrace.streams.replay.opening import open_past, plan_range
from headrace.streams.replay.ranges import Wanted


@click.command("backfill")
@click.argument("pipeline")
@click.argument("new")
@click.option("--full-speed", is_flag=True, help="Do not give way to live workers.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead.")
def command(pipeline: str, new: str, full_speed: bool, as_json: bool) -> None:
    """Compute the features of file NEW from the log, beside those of PIPELINE that are live.

    Then start the workers with NEW: they go on from where this ended.
    """
    give_way(full_speed=full_speed)
    settings, file = load(), pipeline_file(new)
    views = new_views(load_pipeline(pipeline_file(pipeline)), load_pipeline(file))
    done = run(_fill(settings, file, views))
    if done is None:
        return
    if as_json:
        click.echo(json.dumps(facts(done, views)))
        return
    for one in done:
        click.echo(
            f"[{one.partition}] to {one.position}, from {one.begun.said(one.position)}: "
            f"{one.entities:,} entities, {one.rows:,} online rows"
        )
    named = ", ".join(views) or "none"
    click.echo(f"new in the store: {named}; to switch, start the workers with {str(file)!r}")


async def _fill(settings: Settings, file: Path, views: list[str]) -> list[Filled]:
    async with open_past(settings, file) as opened:
        snapshots = open_snapshots(settings.snapshots, opened.pipeline.name, wall_clock)
        if snapshots is None or settings.store.url == "local":
            missing = "HEADRACE_SNAPSHOTS" if snapshots is None else "HEADRACE_STORE"
            raise SettingsError(
                f"a backfill leaves its state where the workers find it, and {missing} names no "
                f"place that they share; set it, for them too"
            )
        plan = await plan_range(opened, Wanted(by="broker"))
        store = await open_store(settings.store, opened.pipeline.name)
        try:
            return await backfill(
                opened.past, store, snapshots, plan.spans, views, said=Progress(plan.offsets)
            )
        finally:
            await store.close()


def facts(done: list[Filled], views: list[str]) -> dict[str, Any]:
    """For machines."""
    return {"views": views, "partitions": msgspec.to_builtins(done)}
