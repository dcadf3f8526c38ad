"""`headrace topics`: what a pipeline needs on the bus, what is there, and making the difference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from headrace.schemas.errors import TopicError
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.topics import TopicSpec, topics_of
from headrace.streams.bus.admin import describe_topics, ensure_topics
from headrace.streams.bus.options import client_options
from headrace.streams.bus.topics import TopicFound
from headrace.streams.cli.context import load, pipeline_file
from headrace.streams.cli.running import run
from headrace.streams.cli.topics_undecided import undecided

_pipeline = click.argument("pipeline", default="hosts")
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object instead.")


@click.group()
def topics() -> None:
    """List, plan, create and describe topics; mend transactions."""


topics.add_command(undecided)


@topics.command("list")
@_json
def list_topics(as_json: bool) -> None:
    """Every topic on the bus, with its partitions."""
    found = run(describe_topics(client_options(load().bus))) or {}
    if as_json:
        click.echo(json.dumps({"topics": {t.name: t.partitions for t in found.values()}}))
        return
    for name in sorted(found):
        click.echo(f"{name}  {found[name].partitions} partitions")


@topics.command()
@_pipeline
@_json
def plan(pipeline: str, as_json: bool) -> None:
    """What `apply` would do; changes nothing."""
    specs, found = _compare(pipeline)
    steps = {spec.name: _step(spec, found) for spec in specs}
    if as_json:
        click.echo(json.dumps({"plan": steps}))
        return
    for name, step in steps.items():
        click.echo(f"{step:<9} {name}")


@topics.command()
@_pipeline
@_json
def apply(pipeline: str, as_json: bool) -> None:
    """Create what is missing; doing it again changes nothing."""
    specs, found = _compare(pipeline)
    missing = [spec.name for spec in specs if spec.name not in found]
    run(ensure_topics(client_options(load().bus), specs))
    if as_json:
        click.echo(json.dumps({"created": missing, "topics": len(specs)}))
        return
    for name in missing:
        click.echo(f"created   {name}")
    click.echo(f"{len(specs)} topics are there")


topics.add_command(apply, "create")


@topics.command()
@_pipeline
@_json
def describe(pipeline: str, as_json: bool) -> None:
    """Each topic of a pipeline: wanted and found partitions, retention and class of data."""
    specs, found = _compare(pipeline)
    facts = [_facts(spec, found.get(spec.name)) for spec in specs]
    if as_json:
        click.echo(json.dumps({"topics": facts}))
        return
    for fact in facts:
        click.echo(
            f"{fact['name']}  {fact['data']}  partitions {fact['partitions_found']} of "
            f"{fact['partitions']}  retention {fact['retention_ms_found']} of "
            f"{fact['retention_ms']} ms"
        )
    absent = [fact["name"] for fact in facts if fact["partitions_found"] is None]
    if absent:
        raise TopicError(
            f"{len(absent)} of {len(facts)} topics of {pipeline!r} are not on the bus; "
            f"make them with: headrace topics apply {pipeline}"
        )


def _compare(pipeline: str) -> tuple[tuple[TopicSpec, ...], Mapping[str, TopicFound]]:
    specs = topics_of(load_pipeline(pipeline_file(pipeline))).all()
    names = [spec.name for spec in specs]
    return specs, run(describe_topics(client_options(load().bus), names)) or {}


def _step(spec: TopicSpec, found: Mapping[str, TopicFound]) -> str:
    there = found.get(spec.name)
    if there is None:
        return "create" if spec.ours else "absent"
    return "keep" if there.partitions == spec.partitions else "conflict"


def _facts(spec: TopicSpec, found: TopicFound | None) -> dict[str, Any]:
    return {
        "name": spec.name,
        "stage": spec.stage,
        "data": spec.data,
        "partitions": spec.partitions,
        "partitions_found": found.partitions if found else None,
        "retention_ms": spec.retention_ms,
        "retention_ms_found": found.configs.get("retention.ms") if found else None,
    }
