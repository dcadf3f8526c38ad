"""`headrace explain`: one prediction, back to its event and forward to its summary."""

from __future__ import annotations

import json
from pathlib import Path

import click
import msgspec

from headrace.schemas.settings import Settings
from headrace.streams.cli.context import load, pipeline_file
from headrace.streams.cli.running import run
from headrace.streams.replay.explain import Explained, explain
from headrace.streams.replay.opening import open_past


@click.command("explain")
@click.argument("prediction")
@click.option("--pipeline", default="hosts", show_default=True, help="Whose prediction.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead.")
def command(prediction: str, pipeline: str, as_json: bool) -> None:
    """Where PREDICTION, an id of 32 hex digits, comes from, and what it went into."""
    found = run(_explain(load(), pipeline_file(pipeline), prediction))
    if found is None:
        return
    click.echo(json.dumps(msgspec.to_builtins(found)) if as_json else "\n".join(lines(found)))


async def _explain(settings: Settings, file: Path, prediction: str) -> Explained:
    async with open_past(settings, file) as opened:
        return await explain(prediction, opened.past)


def lines(found: Explained) -> list[str]:
    """For people; what is not to be had is a line of its own."""
    said = [f"{found.id} is of {found.source}"]
    if found.record is not None:
        said.append(f"  record     {found.record.size} bytes, digest {found.record.digest}")
    if found.features is not None:
        said += _features(found)
    if found.state is not None:
        said.append(f"  state      from snapshot {found.state}")
    if found.prediction is not None:
        said += _prediction(found)
    for one in found.summaries:
        part = ", suppressed" if one.suppressed else ""
        said.append(
            f"  summary    {one.at}: window {one.window_start_ms} to {one.window_end_ms}, group "
            f"{one.group}, revision {one.rev}, {one.rows} rows{part}"
        )
    if found.summaries:
        said.append(
            "             of its window and group; a prediction that came too late is in none"
        )
    return [*said, *(f"  missing: {line}" for line in found.missing)]


def _features(found: Explained) -> list[str]:
    row = found.features
    if row is None:
        return []
    said = [
        f"  features   row {row.row} of {row.at}, {row.age_ms} ms old when logged"
        + (", from a truncated history" if row.rebuilt else ""),
        f"             by pipeline file {row.pipeline_digest}, numerics {row.numerics}",
    ]
    return said + [
        f"             {name:<32} {'missing' if value is None else format(value, '.9g')}"
        for name, value in row.values.items()
    ]


def _prediction(found: Explained) -> list[str]:
    row = found.prediction
    if row is None:
        return []
    kept = "kept" if found.model_kept else "not kept"
    score = "refused" if row.score is None else f"{row.score:.9g}"
    return [
        f"  model      {row.model.name} version {row.model.version}, {row.model.digest}, {kept}",
        f"  answered   by {row.tier}: score {score}, {row.label}"
        + (f", flagged {', '.join(row.flags)}" if row.flags else ""),
        f"  published  {found.at}, served {row.times_ms.served - row.times_ms.ingest} ms after it "
        f"was logged",
    ]
