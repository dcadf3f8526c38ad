"""`headrace produce file`: events from a file."""

from __future__ import annotations

from pathlib import Path

import click

from headrace.schemas.pipeline import load_pipeline
from headrace.streams.cli.context import pipeline_file
from headrace.streams.cli.produce_host import drive_source, report
from headrace.streams.cli.running import run


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--pipeline", default="hosts", show_default=True, help="Pipeline to feed.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Readings of 1000 lines per second; as fast as it goes.",
)
@click.option("--seconds", type=click.FloatRange(min=0), help="Stop after this long.")
@click.option("--strict", is_flag=True, help="Refuse events the pipeline would refuse.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object.")
def file(
    file: Path,
    pipeline: str,
    rate: float | None,
    seconds: float | None,
    strict: bool,
    as_json: bool,
) -> None:
    """A file of one JSON object per line, its bytes unchanged.

    Lines that are no events go too, unless --strict: judging them is the pipeline's business.
    """
    loaded = load_pipeline(pipeline_file(pipeline))
    from headrace.streams.producers.files import FileSource

    with FileSource(file, entity=loaded.input.entity) as source:
        done = run(drive_source(loaded, source, rate, seconds, strict=strict))
    report(done, as_json)
