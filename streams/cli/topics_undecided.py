"""`headrace topics undecided`: transactions of a pipeline that nobody has ended; mends them."""

from __future__ import annotations

import json

import click

from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.topics import topics_of
from headrace.streams.bus.options import client_options
from headrace.streams.cli.context import load, pipeline_file
from headrace.streams.cli.running import run
from headrace.streams.transport.undecided import Fate
from headrace.streams.transport.undecided import undecided as look
from headrace.streams.workers.jobs import groups_of, stages_of

_SAID: dict[Fate, str] = {
    "open": "in work: its owner ends it, or the bus does after 10 to 20 s",
    "committed": "committed, and its end is missing: --mend writes it",
    "aborted": "aborted, and its end is missing: --mend writes it",
    "mended": "its end was missing and is written",
    "forgotten": "nobody knows how it was decided: see the operator's page",
}
_TO_DO: frozenset[Fate] = frozenset({"committed", "aborted", "forgotten"})


@click.command()
@click.argument("pipeline", default="hosts")
@click.option("--mend", is_flag=True, help="Write the ends that are missing, as they were decided.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead.")
def undecided(pipeline: str, mend: bool, as_json: bool) -> None:
    """Transactions that are open in PIPELINE's topics, and what the bus knows of them.

    Ends with 2 when one is left that nobody ends. --mend needs `Alter` on the cluster and `Read` of
    all topics, and shuts out a worker whose transaction it ends, if that one still runs: it takes
    over again.
    """
    what = load_pipeline(pipeline_file(pipeline))
    groups = [f"{what.name}.{stage}" for stage in groups_of(stages_of(what))]
    named = [spec.name for spec in topics_of(what).all()]
    found = run(look(client_options(load().bus), groups, named, mend=mend)) or []
    if as_json:
        click.echo(json.dumps({"undecided": [one._asdict() for one in found]}))
    else:
        for one in found:
            click.echo(f"{one.transactional_id or '(unknown id)'}  {_SAID[one.fate]}")
            for place in one.places:
                click.echo(f"  {place}")
        if not found:
            click.echo("no transaction is open")
    if any(one.fate in _TO_DO for one in found):
        raise SystemExit(2)
