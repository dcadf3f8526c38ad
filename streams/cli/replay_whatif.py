"""`headrace replay whatif`: old events through another model, threshold or pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import msgspec

from headrace.schemas.errors import SettingsError
from headrace.schemas.settings import Settings
from headrace.streams.cli.context import load, pipeline_file
from headrace.streams.cli.past import (
    Progress,
    give_way,
    range_options,
    wanted_range,
    write_file,
)
from headrace.streams.cli.running import run
from headrace.streams.replay.difference_report import Report, report, side_by_side
from headrace.streams.replay.opening import open_past, plan_range
from headrace.streams.replay.otherwise import Change, otherwise
from headrace.streams.replay.ranges import Wanted
from headrace.streams.replay.whatif import Tried, try_otherwise

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("whatif")
@click.argument("pipeline", default="hosts")
@range_options
@click.option("--model", type=_FILE, help="Another ONNX file.")
@click.option("--pipeline", "other", help="Another pipeline file: other features, other inputs.")
@click.option("--threshold", type=float, help="Another threshold.")
@click.option("--out", type=_FILE, help="Write the report as JSON here.")
@click.option("--pairs", type=_FILE, help="Write every event with both answers as CSV here.")
@click.option("--plot", type=_FILE, help="Draw it as SVG here (extra `plots`).")
@click.option("--json", "as_json", is_flag=True, help="The report as one JSON object instead.")
def command(
    pipeline: str,
    model: Path | None,
    other: str | None,
    threshold: float | None,
    out: Path | None,
    pairs: Path | None,
    plot: Path | None,
    full_speed: bool,
    as_json: bool,
    **asked: Any,
) -> None:
    """What PIPELINE would have said of old events, beside what it said."""
    if model is None and other is None and threshold is None:
        raise click.UsageError("nothing is changed; give --model, --pipeline or --threshold")
    give_way(full_speed=full_speed)
    wanted = wanted_range(**asked)
    change = Change(model, pipeline_file(other) if other else None, threshold)
    done = run(_try(load(), pipeline_file(pipeline), change, wanted))
    if done is None:
        return
    found, tried = done
    encoded = msgspec.json.encode(found)
    if out is not None:
        write_file(out, msgspec.json.format(encoded, indent=2) + b"\n")
    if pairs is not None:
        write_file(pairs, side_by_side(tried))
    if plot is not None:
        write_file(plot, _drawn(found, tried))
    click.echo(json.dumps(json.loads(encoded)) if as_json else "\n".join(lines(found)))


async def _try(
    settings: Settings, file: Path, change: Change, wanted: Wanted
) -> tuple[Report, Tried]:
    async with open_past(settings, file) as opened:
        other, changed = await otherwise(opened.past, change)
        try:
            plan = await plan_range(opened, wanted)
            tried = await try_otherwise(opened.past, other, plan.spans, said=Progress(plan.offsets))
        finally:
            await other.candidate.scorer.close()
        return report(opened.pipeline.name, plan, other, tried, changed=changed), tried


def _drawn(found: Report, tried: Tried) -> bytes:
    from headrace.streams.replay.plot import draw

    if not found.comparison.events:
        raise SettingsError("there is nothing to draw: no event of the range has both answers")
    asked = found.asked
    title = f"{asked.pipeline}: model {asked.model}, threshold {asked.threshold:g}"
    return draw(tried.pairs, found.comparison, title=title)


def lines(found: Report) -> list[str]:
    """The report for people."""
    asked, c, costs = found.asked, found.comparison, found.costs
    said = [
        f"{asked.pipeline}: model {asked.model}, threshold {asked.threshold:g}"
        + (", other features" if asked.features_changed else ""),
        f"  {c.events:,} events side by side ({found.seconds:.1f} s); {c.only_served:,} only "
        f"served, {c.only_other:,} only otherwise",
    ]
    if c.agreement is not None and c.served and c.other and c.shift:
        said += [
            f"  labels agree on {c.agreement:.4%}; {c.gained:,} anomalies gained, {c.lost:,} lost "
            f"({c.served.anomalies:,} served, {c.other.anomalies:,} otherwise)",
            f"  scores: mean {c.served.mean:.6g} served, {c.other.mean:.6g} otherwise; moved by "
            f"{c.shift.mean_absolute:.3g} on average, at most {c.shift.largest:.3g} at "
            f"{c.shift.largest_at or 'none'}; {c.shift.equal:,} equal to the bit; KS "
            f"{c.shift.ks:.4f}",
        ]
    said += [
        f"  {one.device_id}: {one.gained} gained, {one.lost} lost of {one.events}"
        for one in c.devices[:5]
        if one.gained or one.lost
    ]
    told = [
        f"{name} {value:.2f} µs" for name, value in (
            ("a score now", costs.now_us_per_row), ("otherwise", costs.other_us_per_row),
            ("features", costs.features_us_per_row),
        ) if value is not None
    ]  # fmt: skip
    waits = ", ".join(f"p{float(q) * 100:g} {ms:.0f} ms" for q, ms in costs.served_ms.items())
    said.append(f"  cost of a row: {', '.join(told) or 'none'}; served in {waits or 'no time'}")
    return [*said, *(f"  note: {line}" for line in found.notes)]
