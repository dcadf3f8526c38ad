"""`headrace observe`: what was seen of a pipeline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from headrace.schemas.observed import ObservedRecord
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.topics import topics_of
from headrace.streams.bus.options import client_options
from headrace.streams.cli.context import load, pipeline_file
from headrace.streams.cli.deadletter import Since
from headrace.streams.cli.observe_drift import drift
from headrace.streams.cli.running import run
from headrace.streams.observe.history_topic import records


@click.group()
def observe() -> None:
    """What was seen of a pipeline: latencies, error budgets, drift, incidents."""


@observe.command()
@click.argument("pipeline", default="hosts")
@click.option(
    "--since", type=Since(), default="1h", show_default=True, help="An age (2h, 7d) or a time."
)
@click.option("--json", "as_json", is_flag=True, help="Each minute as one JSON object.")
def history(pipeline: str, since: float, as_json: bool) -> None:
    """Print what was seen in each minute, oldest first."""
    topic = topics_of(load_pipeline(pipeline_file(pipeline))).observed.name
    run(show(client_options(load().bus), topic, round(since), as_json=as_json))


async def show(options: dict[str, Any], topic: str, since_ms: int, *, as_json: bool) -> None:
    """Print what is on the topic since a broker time.

    Raises:
        BusUnavailableError: retryable. BusRefusedError, TopicError: fatal.
    """
    async with aclosing(records(options, topic, since_ms)) as found:
        async for record in found:
            if as_json:
                click.echo(json.dumps(facts(record)))
            else:
                for line in lines(record):
                    click.echo(line)


def facts(record: ObservedRecord) -> dict[str, Any]:
    """A record ready to become JSON, without image and bins, which are for machines."""
    made: dict[str, Any] = msgspec.to_builtins(
        msgspec.structs.replace(record, image=None, perceived={})
    )
    return made


def lines(record: ObservedRecord) -> Iterator[str]:
    """One minute for people: a line, and one of each alarm and incident."""
    at = datetime.fromtimestamp(record.at_ms / 1000, UTC).isoformat(timespec="seconds")
    if record.perceived:
        for hop in record.latencies:
            yield f"{at}  a consumer: {hop.hop}  p50 {hop.p50_ms:,.1f} ms  p99 {hop.p99_ms:,.1f} ms"
        return
    counts = "  ".join(f"{name} {count:,}" for name, count in record.events.items() if count)
    whole = [p for p in record.latencies if p.hop == "device_to_prediction"][:1]
    took = "".join(f"  p50 {p.p50_ms:,.1f} ms  p99 {p.p99_ms:,.1f} ms" for p in whole)
    left = "".join(f"  {b.which}.{b.name} {b.left:.1%} left" for b in record.budgets)
    yield f"{at}  {counts or 'nothing'}{took}{left}"
    for found in record.drift:
        if found.alarm:
            yield (
                f"{'':27}drift of {found.quantity}, class {found.device_class}, window "
                f"{found.window}: distance {found.distance:.3f}, by chance {found.limit:.3f}"
            )
    for incident in record.incidents:
        state = "goes on" if incident.end_ms is None else "ended"
        yield (
            f"{'':27}incident of {incident.which}.{incident.objective} ({incident.severity}), "
            f"cause {incident.cause}, {incident.bad:,} bad events, {state}"
        )


observe.add_command(drift)
