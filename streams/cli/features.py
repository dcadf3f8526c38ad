"""`headrace features`: what the online store knows of an entity; snapshots of the state."""

from __future__ import annotations

import json
from typing import Any

import click

from headrace.feature_store.open import open_store
from headrace.feature_store.store import Store
from headrace.schemas.errors import SettingsError
from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.schemas.settings import StoreSettings
from headrace.schemas.strict import nearest
from headrace.streams.cli.context import load, pipeline_file
from headrace.streams.cli.features_backfill import command as backfill
from headrace.streams.cli.features_export import export
from headrace.streams.cli.running import run
from headrace.streams.cli.snapshots import snapshots
from headrace.streams.client.clock import wall_clock
from headrace.streams.online_rows import read_view


@click.group()
def features() -> None:
    """Read the online feature store, and the snapshots of the state behind it."""


features.add_command(snapshots)
features.add_command(export)
features.add_command(backfill)


@features.command()
@click.argument("entities", nargs=-1, required=True)
@click.option("--pipeline", default="hosts", show_default=True, help="Whose features.")
@click.option("--view", help="Only this view.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead.")
def get(entities: tuple[str, ...], pipeline: str, view: str | None, as_json: bool) -> None:
    """Names, values and ages of the features of ENTITIES."""
    loaded = load_pipeline(pipeline_file(pipeline))
    if view is not None and view not in loaded.views:
        raise click.UsageError(f"no view {view!r}{nearest(view, loaded.views)}")
    views = [view] if view else list(loaded.views)
    found = run(_read(load().store, loaded, views, list(dict.fromkeys(entities)))) or {}
    if as_json:
        click.echo(json.dumps(found))
        return
    for entity, rows in found.items():
        _show(entity, rows)


async def _read(
    settings: StoreSettings, pipeline: Pipeline, views: list[str], entities: list[str]
) -> dict[str, Any]:
    if settings.url == "local":
        raise SettingsError(
            "the store is 'local', which names no server yet; start it first, or name a store "
            "in HEADRACE_STORE"
        )
    store = await open_store(settings, pipeline.name)
    try:
        found: dict[str, Any] = {entity: {} for entity in entities}
        for view in views:
            await _read_view(store, pipeline, view, found)
        return found
    finally:
        await store.close()


async def _read_view(store: Store, pipeline: Pipeline, view: str, found: dict[str, Any]) -> None:
    now_ms = round(wall_clock() * 1000)
    names, answer = await read_view(store, pipeline, view, list(found), now_ms=now_ms)
    for row, entity in enumerate(found):
        if not answer.found[row]:
            found[entity][view] = None
            continue
        values = [None if v != v else v for v in answer.values[row].tolist()]
        age_ms = now_ms - int(answer.event_times_ms[row])
        found[entity][view] = {"age_ms": age_ms, "values": dict(zip(names, values, strict=True))}


def _show(entity: str, rows: dict[str, Any]) -> None:
    click.echo(entity)
    for view, row in rows.items():
        if row is None:
            click.echo(f"  {view}: nothing within its time to live")
            continue
        click.echo(f"  {view}: {row['age_ms']} ms old")
        for name, value in row["values"].items():
            click.echo(f"    {name:<32} {'missing' if value is None else format(value, '.6g')}")
