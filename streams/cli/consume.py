"""`headrace consume`: print predictions, summaries or dead letters."""

from __future__ import annotations

import json
from typing import Any

import click
import msgspec

from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.schemas.summary import SummaryRecord
from headrace.streams.cli.context import load, pipeline_file
from headrace.streams.cli.running import run
from headrace.streams.client import Consumer, DeadLetter, Received, dead_letters, summaries
from headrace.streams.client.topic_reader import TopicReader


@click.command()
@click.argument("pipeline", default="hosts")
@click.option("--summaries", "what", flag_value="summaries", help="Summaries instead.")
@click.option("--deadletter", "what", flag_value="deadletter", help="Dead letters instead.")
@click.option("--group", help="Consumer group to go on with; without one nothing is committed.")
@click.option(
    "--from", "start", default="latest", show_default=True, help="Or earliest, or a time."
)
@click.option("--follow/--no-follow", default=True, help="Wait for more, or end at the end.")
@click.option("--count", type=click.IntRange(min=1), help="End after this many.")
@click.option("--deadline-ms", type=click.FloatRange(min=0), help="Mark older predictions overdue.")
@click.option("--raw", is_flag=True, help="Show a dead letter's bytes too: raw content.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines, and totals in the last one.")
def consume(
    pipeline: str,
    what: str | None,
    group: str | None,
    start: str,
    follow: bool,
    count: int | None,
    deadline_ms: float | None,
    raw: bool,
    as_json: bool,
) -> None:
    """Print what a pipeline publishes, each item once."""
    loaded = load_pipeline(pipeline_file(pipeline))
    options: dict[str, Any] = {"group": group, "start": start, "follow": follow}
    reader = _reader(loaded, what, deadline_ms, options)
    run(_print(reader, count, as_json=as_json, raw=raw))
    if as_json:
        click.echo(json.dumps(_totals(reader)))


def _reader(
    pipeline: Pipeline, what: str | None, deadline_ms: float | None, options: dict[str, Any]
) -> TopicReader[Any]:
    bus = load().bus
    if what == "summaries":
        return summaries(bus, pipeline, **options)
    if what == "deadletter":
        return dead_letters(bus, pipeline, **options)
    return Consumer(bus, pipeline, deadline_ms=deadline_ms, **options)


async def _print(reader: TopicReader[Any], count: int | None, *, as_json: bool, raw: bool) -> None:
    async with reader:
        async for item in reader:
            click.echo(_json_line(item, raw) if as_json else _line(item, raw))
            if reader.counts.delivered == count:
                reader.done()
                return


def _line(item: Received | SummaryRecord | DeadLetter, raw: bool) -> str:
    if isinstance(item, Received):
        score = "refused" if item.score is None else f"{item.score:.4f}"
        marks = [*item.flags, *["amended"] * item.supersedes, *["overdue"] * item.overdue]
        return (
            f"{item.event_time}  {item.device_id:<20} {score:>8} {item.label:<10} {item.tier:<6}"
            f"{item.latency_ms:8.0f} ms  {' '.join(marks)}"
        ).rstrip()
    if isinstance(item, SummaryRecord):
        return (
            f"{item.window_start_ms}-{item.window_end_ms}  {item.group}  "
            f"{item.rows} rows  {item.devices} devices  {item.anomalies} anomalies"
            f"{'  amended' * bool(item.rev)}"
        )
    line = f"{item.at}  {item.code}  {item.source}  {item.stage}  attempt {item.attempt}"
    return f"{line}  {item.value!r}" if raw else f"{line}  {len(item.value)} bytes"


def _json_line(item: Received | SummaryRecord | DeadLetter, raw: bool) -> str:
    fields: dict[str, Any] = msgspec.to_builtins(item)
    if isinstance(item, DeadLetter):
        fields |= {"bytes": len(item.value)}
        if not raw:
            fields |= dict.fromkeys(("key", "headers", "value"))
    return json.dumps(fields)


def _totals(reader: TopicReader[Any]) -> dict[str, Any]:
    counts = reader.counts
    totals: dict[str, Any] = {name: getattr(counts, name) for name in counts.__slots__}
    if isinstance(reader, Consumer) and reader.latency.count:
        for q in (0.5, 0.95, 0.99):
            totals[f"latency_p{round(q * 100)}_ms"] = round(reader.latency.quantile(q), 1)
    return totals
