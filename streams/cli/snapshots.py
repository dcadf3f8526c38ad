"""`headrace features snapshots`: the copies of checkpoints that a lost store is rebuilt from."""

from __future__ import annotations

import json
from typing import Any

import click

from headrace.feature_store.snapshot_places import open_snapshots
from headrace.feature_store.snapshots import Snapshots, StoredSnapshot
from headrace.schemas.errors import HeadraceError, SettingsError
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.settings import SnapshotSettings
from headrace.streams.cli.context import load, pipeline_file
from headrace.streams.cli.findings import Finding, failed
from headrace.streams.client.clock import wall_clock


@click.command()
@click.argument("pipeline", default="hosts")
@click.option("--verify", is_flag=True, help="Read each of them to its end, and say what is wrong.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead.")
def snapshots(pipeline: str, verify: bool, as_json: bool) -> None:
    """Which snapshots of PIPELINE's state are kept, the newest of each partition first.

    Ends with 2 when one of those that were verified is damaged.
    """
    name = load_pipeline(pipeline_file(pipeline)).name
    kept = open_snapshots(load().snapshots, name, wall_clock)
    if kept is None:
        raise SettingsError(
            "no snapshots are kept: snapshots.url is not set; "
            "name a folder or a bucket in HEADRACE_SNAPSHOTS"
        )
    now_ms = round(wall_clock() * 1000)
    found = [_facts(kept, one, now_ms, verify=verify) for one in _by_partition(kept)]
    if as_json:
        click.echo(json.dumps({"place": kept.place, "snapshots": found}))
    else:
        _show(kept.place, found)
    if any(one.get("damage") for one in found):
        raise SystemExit(2)


def snapshot_finding(settings: SnapshotSettings, pipeline: str) -> Finding:
    """Whether snapshots can be written where the settings say, for the doctor."""
    try:
        kept = open_snapshots(settings, pipeline, wall_clock)
        if kept is None:
            return Finding(
                "ok",
                "snapshots",
                "none are kept: a lost store is rebuilt as far as the log reaches; "
                "HEADRACE_SNAPSHOTS names a place for them",
            )
        kept.probe()
        count = len(kept.stored())
    except HeadraceError as error:
        return failed("snapshots", error)
    return Finding("ok", "snapshots", f"{count} in {kept.place}, which takes and gives them")


def _by_partition(kept: Snapshots) -> list[StoredSnapshot]:
    return sorted(kept.stored(), key=lambda one: one.key)


def _facts(kept: Snapshots, one: StoredSnapshot, now_ms: int, *, verify: bool) -> dict[str, Any]:
    stage, topic, partition, *purpose = one.key.split("/")
    facts: dict[str, Any] = {
        "stage": stage,
        "topic": topic,
        "partition": int(partition),
        "position": one.position,
        "age_s": round((now_ms - one.created_ms) / 1000, 3),
        "bytes": one.size,
        "name": one.name,
    }
    if purpose:
        facts["backfilled"] = purpose[0]
    if verify:
        try:
            facts["rebuilt"] = kept.read(one).meta.rebuilt
            facts["damage"] = None
        except ValueError as error:
            facts["damage"] = str(error)
    return facts


def _show(place: str, found: list[dict[str, Any]]) -> None:
    click.echo(f"{len(found)} snapshots in {place}")
    for one in found:
        line = (
            f"  {one['stage']:<7} {one['topic']}[{one['partition']}]@{one['position']}  "
            f"{one['age_s']:.0f} s old, {one['bytes']} bytes"
        )
        if "backfilled" in one:
            line += ", backfilled for other features"
        if one.get("rebuilt"):
            line += ", rebuilt from a truncated history"
        if "damage" in one:
            line += f", damaged: {one['damage']}" if one["damage"] else ", whole"
        click.echo(line)
