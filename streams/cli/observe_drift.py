"""`headrace observe drift`: drift computed anew from the log."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from headrace.schemas.batch import RecordBatch
from headrace.schemas.block import FeatureBlock
from headrace.schemas.errors import SettingsError
from headrace.schemas.observe import Drift
from headrace.schemas.observed import Finding, Image
from headrace.schemas.pipeline import Pipeline, load_pipeline
from headrace.schemas.topics import topics_of
from headrace.streams.bus.options import client_options
from headrace.streams.cli.context import load, pipeline_file
from headrace.streams.cli.deadletter import Since
from headrace.streams.cli.running import run
from headrace.streams.observe.history_topic import records


@click.command()
@click.argument("pipeline", default="hosts")
@click.option("--from", "start", type=Since(), required=True, help="An age (2h, 7d) or a time.")
@click.option("--to", "stop", type=Since(), default="0s", help="Before this age or time.")
@click.option("--json", "as_json", is_flag=True, help="Each indicator as one JSON object.")
def drift(pipeline: str, start: float, stop: float, as_json: bool) -> None:
    """Compute drift anew from the log, and say whether `up` told the same.

    Of every whole window between --from and --to, from the features and predictions topics; what
    windows are held against is taken from what `up` kept, else learned from the first of them.
    """
    loaded = load_pipeline(pipeline_file(pipeline))
    if (rules := loaded.observe.drift) is None:
        raise SettingsError(
            f"pipeline {loaded.name!r} looks for no drift, expected an [observe.drift] in its file"
        )
    done = run(computed(client_options(load().bus), loaded, rules, start, stop))
    if done is None:
        return  # a signal ended it
    found, told = done
    for finding in found:
        click.echo(json.dumps(msgspec.to_builtins(finding)) if as_json else line(finding, rules))
    same = sum(found_as(told, finding) is True for finding in found)
    differ = sum(found_as(told, finding) is False for finding in found)
    click.echo(
        f"{len(found)} indicators; of those that up told of, {same} are the same and "
        f"{differ} are not",
        err=True,
    )
    if differ:
        raise SystemExit(1)


Told = dict[tuple[int, str, str], Finding]


def found_as(told: Told, finding: Finding) -> bool | None:
    """Whether `up` told the very same; None where it told nothing of it."""
    known = told.get((finding.window, finding.device_class, finding.quantity))
    return None if known is None else known == finding


async def computed(
    options: dict[str, Any], pipeline: Pipeline, rules: Drift, start_ms: float, stop_ms: float
) -> tuple[list[Finding], Told]:
    """Indicators of the whole windows of a range, and those that `up` told of.

    Raises:
        BusUnavailableError: retryable. BusRefusedError, TopicError, StateError: fatal.
    """
    # Loaded only now: `headrace observe history` does without them.
    from headrace.streams.bus.lone_reader import lone_reader
    from headrace.streams.replay.past_drift import PastDrift

    window_ms, topics = round(rules.window_s * 1000), topics_of(pipeline)
    first, stop = -int(-start_ms // window_ms), int(stop_ms // window_ms)
    image, told = await _history(options, topics.observed.name, first)
    past = PastDrift(pipeline, rules, first, stop, image)
    async with lone_reader(options, topics.predictions.name) as answers:
        begins, edges = await answers.at_time(past.start_ms), await answers.edges()
        for part in answers.partitions:
            async for batch in answers.read(part, begins[part], edges[part][1]):
                if not past.answered(part, batch.values):
                    break
    async with lone_reader(options, topics.features.name) as features:
        begins, edges = await features.at_time(past.start_ms), await features.edges()
        for part in features.partitions:
            reader = features.read(part, begins[part], edges[part][1])
            past.featured(part, await _blocks(reader, stop * window_ms))
    return past.findings(), told


async def _blocks(reader: AsyncIterator[RecordBatch], stop_ms: int) -> list[FeatureBlock]:
    """Blocks up to the first whose events are all later."""
    found: list[FeatureBlock] = []
    async for batch in reader:
        for value in batch.values:
            block = FeatureBlock.decode(value or b"")
            if len(block) and block.log_times_ms[0] >= stop_ms:
                return found
            found.append(block)
    return found


async def _history(options: dict[str, Any], topic: str, first: int) -> tuple[Image | None, Told]:
    """The newest image from before a window, and everything that was told."""
    image: Image | None = None
    told: Told = {}
    async for record in records(options, topic, 0):
        told |= {(one.window, one.device_class, one.quantity): one for one in record.drift}
        if record.image is not None and 0 <= record.image.judged < first:
            image = record.image
    return image, told


def line(finding: Finding, rules: Drift) -> str:
    """One indicator for people."""
    at = datetime.fromtimestamp(finding.window * rules.window_s, UTC).isoformat(timespec="seconds")
    return (
        f"{at}  {finding.device_class}  {finding.quantity}  index {finding.value:.3f}  distance "
        f"{finding.distance:.3f}, by chance {finding.limit:.3f}{'  drift' * finding.alarm}"
    )
