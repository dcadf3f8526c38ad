"""`headrace produce check`: did every event of a fleet become what its ledger says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from headrace.schemas.pipeline import load_pipeline
from headrace.streams.cli.context import load, pipeline_file
from headrace.streams.cli.running import run
from headrace.streams.client.connect import bus_of
from headrace.streams.producers.ledger_check import check as compare
from headrace.streams.producers.ledger_file import LedgerReader


@click.command()
@click.argument("ledger", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--pipeline", default="hosts", show_default=True, help="Pipeline that was fed.")
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    help="Ends after so many seconds without a new record.",
)
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object.")
def check(ledger: Path, pipeline: str, patience: float, as_json: bool) -> None:
    """Hold predictions, late events and dead letters against the ledger of a fleet.

    In = predicted + dead + late + repeated, event by event; and raw or personal content is looked
    for where none may be. Exit code 1 where anything is not as the ledger says.
    """
    loaded = load_pipeline(pipeline_file(pipeline))
    rows = LedgerReader(ledger)
    fates = run(compare(bus_of(load().bus), loaded, rows, patience_s=patience))
    if fates is None:
        return
    found = fates.report()
    click.echo(json.dumps(found) if as_json else _told(found))
    if found["wrong"] or found["raw_or_personal_seen"]:
        sys.exit(1)


def _told(found: dict[str, Any]) -> str:
    """The comparison for people."""
    names = ("events", "predicted", "dead", "late", "repeated", "wrong", "raw_or_personal_seen")
    lines = ["  ".join(f"{name} {found[name]}" for name in names)]
    lines += [f"{kind}: {count} wrong" for kind, count in found["wrong_by_kind"].items()]
    lines += found["first_wrong"]
    if "answer_ms" in found:
        lines.append("  ".join(f"answer {name} {ms} ms" for name, ms in found["answer_ms"].items()))
    return "\n".join(lines)
