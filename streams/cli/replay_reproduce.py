"""`headrace replay reproduce`: what was served, computed anew and compared to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec

from headrace.schemas.settings import Settings
from headrace.streams.cli.context import load, pipeline_file
from headrace.streams.cli.past import Progress, give_way, range_options, wanted_range
from headrace.streams.cli.running import run
from headrace.streams.replay.opening import newest_served, open_past, plan_range
from headrace.streams.replay.ranges import Wanted
from headrace.streams.replay.reproduce import reproduce
from headrace.streams.replay.verdict import Tally, Verdict


@click.command("reproduce")
@click.argument("pipeline", default="hosts")
@range_options
@click.option("--sample", type=click.IntRange(min=1), help="Only so many of the newest events.")
@click.option(
    "--model", "models", type=click.Path(path_type=Path), multiple=True,
    help="A further ONNX file, for predictions of a model that is kept nowhere else.",
)  # fmt: skip
@click.option(
    "--warm-up", type=click.IntRange(min=0),
    help="Begin with no state this many offsets before the range, whatever is kept.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead.")
def command(
    pipeline: str,
    sample: int | None,
    models: tuple[Path, ...],
    warm_up: int | None,
    full_speed: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """Compute PIPELINE's past features and predictions anew; say in what they differ.

    Ends with 1 when something differs, or could not be compared.
    """
    give_way(full_speed=full_speed)
    wanted = wanted_range(**asked)
    file = pipeline_file(pipeline)
    verdict = run(_reproduce(load(), file, wanted, sample, models, warm_up))
    if verdict is None:
        return
    if as_json:
        click.echo(json.dumps(facts(verdict)))
    else:
        click.echo("\n".join(lines(verdict)))
    if not verdict.reproduced:
        raise SystemExit(1)


async def _reproduce(
    settings: Settings,
    file: Path,
    wanted: Wanted,
    sample: int | None,
    models: tuple[Path, ...],
    warm_up: int | None,
) -> Verdict:
    async with open_past(settings, file, models=models, warm_up=warm_up) as opened:
        plan = await plan_range(opened, wanted)
        spans = await newest_served(opened, sample) if sample else list(plan.spans)
        progress = Progress(sum(span.stop - span.start for span in spans))
        missing = () if sample else plan.missing
        return await reproduce(opened.past, spans, missing=missing, said=progress)


def facts(verdict: Verdict) -> dict[str, Any]:
    """The verdict for machines."""
    found: dict[str, Any] = msgspec.to_builtins(verdict)
    return {
        "reproduced": verdict.reproduced,
        "differing_bits": verdict.differing_bits,
        "reservations": verdict.reservations(),
        **found,
    }


def lines(verdict: Verdict) -> list[str]:
    """The verdict for people."""
    records = sum(one.records for one in verdict.partitions)
    head = "reproduced" if verdict.reproduced else "not reproduced"
    models = ", ".join(f"{digest} {count:,}" for digest, count in verdict.models.items())
    tiers = ", ".join(f"{tier} {count:,}" for tier, count in verdict.tiers.items())
    said = [
        f"{head}: {verdict.differing_bits} differing bits in {records:,} records of "
        f"{verdict.topic} ({verdict.seconds:.1f} s)",
        "  " + _tally("features", verdict.features),
        "  " + _tally("predictions", verdict.predictions)
        + (f", {verdict.refused:,} refused" if verdict.refused else ""),
        f"  models {models or 'none'}; answered by {tiers or 'none'}",
    ]  # fmt: skip
    for tally in (verdict.features, verdict.predictions):
        said += [
            f"  {one.source}  {one.column}: recorded {one.recorded}, computed {one.computed}"
            for one in tally.differences.first
        ]
        for count, what, first in (
            (tally.missing, "not recorded", tally.first_missing),
            (tally.unexpected, "recorded, and computed of nothing", tally.first_unexpected),
        ):
            said += [f"  {first}  {what}, the first of {count:,}"] if count else []
    return [*said, *(f"  note: {line}" for line in verdict.reservations())]


def _tally(what: str, tally: Tally) -> str:
    text = f"{what}: {tally.compared:,} compared, {tally.differences.values:,} values differ"
    if tally.again:
        text += f", {tally.again:,} of them published again"
    return text
