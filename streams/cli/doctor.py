"""`headrace doctor`: check everything, and say of each trouble how to mend it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

from headrace.schemas.errors import FatalError
from headrace.streams.cli.findings import Finding
from headrace.streams.cli.health import examine
from headrace.streams.cli.running import run

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@click.argument("pipeline", default="hosts")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead.")
def doctor(pipeline: str, as_json: bool) -> None:
    """Check Python, packages, settings, pipeline, model, bus, topics and store.

    Exits with 2 when anything fails; warnings do not fail.
    """
    findings = run(examine(pipeline)) or []
    failed = sum(finding.level == "fail" for finding in findings)
    if as_json:
        click.echo(
            json.dumps({"ok": not failed, "checks": [finding._asdict() for finding in findings]})
        )
    else:
        for line in _lines(findings):
            click.echo(line)
    if failed:
        raise FatalError(f"{failed} of {len(findings)} checks failed; mend them as they say")


def _lines(findings: list[Finding]) -> Iterator[str]:
    for finding in findings:
        level = click.style(f"{finding.level:<5}", fg=_COLOURS[finding.level])
        yield f"{level} {finding.subject}: {finding.found}"
