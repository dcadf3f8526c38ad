"""`headrace features export`: training sets, point-in-time correct."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import click

from headrace.schemas.errors import SettingsError
from headrace.schemas.settings import Settings
from headrace.streams.cli.context import load, pipeline_file
from headrace.streams.cli.past import (
    Progress,
    give_way,
    range_options,
    wanted_range,
    write_file,
)
from headrace.streams.cli.running import run
from headrace.streams.replay.labels import LabelRows, read_labels
from headrace.streams.replay.opening import open_past, plan_range
from headrace.streams.replay.ranges import Plan, Wanted
from headrace.streams.replay.training import TrainingSet, training_set

_FILE = click.Path(path_type=Path, dir_okay=False)
_OWN = ("feature_time_ms", "feature_age_ms", "source")


@click.command("export")
@click.argument("pipeline", default="hosts")
@range_options
@click.option("--labels", type=_FILE, required=True, help="CSV file of entities and times.")
@click.option("--out", "-o", type=_FILE, required=True, help="A .parquet or .csv file.")
@click.option("--entity", default="device_id", show_default=True, help="Its column of the entity.")
@click.option("--time", default="time", show_default=True, help="Its column of the time.")
@click.option("--known", is_flag=True, help="Only features of events that the broker had by then.")
@click.option("--max-age", type=click.FloatRange(min=0), help="Older features count as missing, s.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead.")
def export(
    pipeline: str,
    labels: Path,
    out: Path,
    entity: str,
    time: str,
    known: bool,
    max_age: float | None,
    full_speed: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """To each label the features that were known of its entity at its time.

    No feature owes anything to an event after its label.
    """
    if out.suffix not in (".parquet", ".csv"):
        raise click.UsageError(f"{str(out)!r} ends in neither .parquet nor .csv; name one of these")
    give_way(full_speed=full_speed)
    rows = read_labels(labels, entity=entity, time=time)
    max_age_ms = None if max_age is None else round(max_age * 1000)
    file, wanted = pipeline_file(pipeline), wanted_range(**asked)
    done = run(_make(load(), file, wanted, rows, known=known, max_age_ms=max_age_ms))
    if done is None:
        return
    plan, made = done
    table = _table(made, rows, entity, time)
    if out.suffix == ".csv":
        write_file(out, _csv(table))
    else:
        _parquet(out, table, made, file)
    facts = {
        "labels": len(rows),
        "with_features": made.found,
        "features": len(made.names),
        "out": str(out),
        "notes": _notes(plan, made),
    }
    if as_json:
        click.echo(json.dumps(facts))
        return
    click.echo(
        f"{made.found:,} of {len(rows):,} labels have features ({len(made.names)} columns): {out}"
    )
    for line in _notes(plan, made):
        click.echo(f"note: {line}", err=True)


async def _make(
    settings: Settings,
    file: Path,
    wanted: Wanted,
    labels: LabelRows,
    *,
    known: bool,
    max_age_ms: int | None,
) -> tuple[Plan, TrainingSet]:
    async with open_past(settings, file) as opened:
        plan = await plan_range(opened, wanted)
        made = await training_set(
            opened.past,
            plan.spans,
            labels,
            known=known,
            max_age_ms=max_age_ms,
            said=Progress(plan.offsets),
        )
        return plan, made


def _table(made: TrainingSet, labels: LabelRows, entity: str, time: str) -> dict[str, list[Any]]:
    """Columns in the order of the file: the label's, ours, the features."""
    table: dict[str, list[Any]] = {entity: labels.entities, time: labels.times_ms.tolist()}
    table |= labels.columns
    own = (made.times_ms.tolist(), made.ages_ms.tolist(), made.sources)
    features = zip(made.names, made.values.T.tolist(), strict=True)
    for name, column in [*zip(_OWN, own, strict=True), *features]:
        if name in table:
            raise SettingsError(
                f"labels have a column {name!r}, which is a column of the features; rename it"
            )
        table[name] = column
    return table


def _csv(table: dict[str, list[Any]]) -> bytes:
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n").writerow
    write(table)
    for row in zip(*table.values(), strict=True):
        write(["" if value != value else value for value in row])
    return text.getvalue().encode()


def _parquet(out: Path, table: dict[str, list[Any]], made: TrainingSet, file: Path) -> None:
    from headrace.streams.producers.tables import TableWriter

    whole = {"feature_time_ms", "feature_age_ms"}
    features = set(made.names)
    types = {
        name: "int64" if name in whole else "double" if name in features else "string"
        for name in table
    }
    types[list(table)[1]] = "int64"
    writer = TableWriter(out, types, {"pipeline": file.stem})
    writer.write(table)
    writer.close()


def _notes(plan: Plan, made: TrainingSet) -> list[str]:
    starts = {span.partition: span.start for span in plan.spans}
    return [one.line for one in plan.missing] + [
        f"{plan.topic}[{partition}]: the state before {starts[partition]} is "
        f"{begun.said(starts[partition])}"
        for partition, begun in made.begun.items()
        if not begun.complete
    ]
