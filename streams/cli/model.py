"""`headrace model`: is the model of a pipeline fit to serve."""

from __future__ import annotations

import json
import time

import click

from headrace.schemas.pipeline import load_pipeline
from headrace.serving.checks import check_model
from headrace.serving.model import read_model
from headrace.streams.cli.context import pipeline_file


@click.group()
def model() -> None:
    """Check the model of a pipeline."""


@model.command()
@click.argument("pipeline", default="hosts")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead.")
def check(pipeline: str, as_json: bool) -> None:
    """Signature, golden pairs and batch invariance: what a worker checks before it serves."""
    file = pipeline_file(pipeline)
    loaded = load_pipeline(file)
    start_s = time.monotonic()
    served = read_model(loaded, file.parent)
    check_model(served, loaded, file.parent)
    inputs = loaded.model_inputs
    facts = {
        "model": served.identity.name,
        "version": served.identity.version,
        "digest": served.digest,
        "golden": loaded.model.golden,
        "seconds": round(time.monotonic() - start_s, 3),
    }
    if as_json:
        click.echo(json.dumps(facts | {"inputs": inputs}))
    else:
        click.echo("  ".join(f"{name} {value}" for name, value in facts.items()))
        click.echo(f"inputs, in this order: {', '.join(inputs)}")
