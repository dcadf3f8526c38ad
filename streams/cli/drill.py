"""`headrace drill`: seeded faults under seeded load, and a ledger of every event."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from headrace.schemas.errors import SettingsError
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.settings import Settings
from headrace.schemas.strict import nearest
from headrace.streams.cli.context import load, pipeline_file
from headrace.streams.cli.running import run
from headrace.streams.drill.campaign import run_plan
from headrace.streams.drill.kinds import KINDS, Kind
from headrace.streams.drill.pipeline_copy import copy_pipeline
from headrace.streams.drill.report import line, report, verdict
from headrace.streams.drill.schedule import Plan, make_plan
from headrace.streams.drill.services import Services, opened
from headrace.streams.drill.target import Target

FAULTS_EVERY_S = 60.0
"""Of every kind but ``kill`` there is one in so long a time."""

MODES = {
    "default": "at-least-once",
    "at-least-once": "at-least-once",
    "exactly-once": "exactly-once",
}

MOST_EVENTS = 400_000
"""About 5 KB of memory each: what was sent, what it became, twice."""


@click.command()
@click.argument("pipeline", default="hosts")
@click.option("--kills", type=click.IntRange(0, 1000), default=18, show_default=True,
              help="Workers killed: 18 meet every crash point once.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same faults.")
@click.option("--seconds", type=click.FloatRange(0, 3000), default=60.0, show_default=True,
              help="Time over which faults are spread; more where they take longer.")  # fmt: skip
@click.option("--faults", default=",".join(KINDS), show_default=True, help="Kinds of faults.")
@click.option("--rate", type=click.FloatRange(1, 20_000), default=1000.0, show_default=True,
              help="Events per second.")  # fmt: skip
@click.option("--mode", type=click.Choice(list(MODES)), default=None,
              help="Delivery mode; left out, the one of PIPELINE.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Run on the bus or store that the settings name.")
@click.option("--json", "as_json", is_flag=True, help="Last line of output is one JSON object.")
def drill(
    pipeline: str, kills: int, seed: int, seconds: float, faults: str, rate: float,
    mode: str | None, yes: bool, as_json: bool,
) -> int:  # fmt: skip
    """Do to a pipeline what may happen to it, under load, and count what that cost.

    Runs the flow of PIPELINE under a name of its own, with made-up events, on a Kafka and a store
    of its own. Exit code 0 only if nothing was lost, differs, is out of order, or came twice out
    of the consumer.
    """
    if seconds * rate > MOST_EVENTS:
        raise click.UsageError(
            f"{seconds:g} s of {rate:g} events/s are more than {MOST_EVENTS}, which the ledger "
            f"holds in memory; lower --rate or --seconds"
        )
    began_s = time.monotonic()
    file, settings = pipeline_file(pipeline), load()
    kinds = _kinds(faults)
    _refuse_unasked(settings, yes=yes)
    mode = MODES[mode] if mode else load_pipeline(file).delivery.mode
    others = max(1, int(seconds // FAULTS_EVERY_S))
    found = run(
        _run(
            Copies(file, mode), settings, kinds, seed,
            kills=kills, others=others, seconds=seconds, rate=rate,
        )
    )  # fmt: skip
    if found is None:
        raise click.Abort
    facts = {"mode": mode, **found, "seconds": round(time.monotonic() - began_s, 1)}
    for breach in facts["breaches"]:
        click.echo(f"breach: {breach}")
    click.echo(verdict(facts))
    if as_json:
        click.echo(json.dumps(facts))
    return 1 if facts["breaches"] else 0


def _kinds(text: str) -> list[Kind]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = {str(kind): kind for kind in KINDS}
    for name in names:
        if name not in known:
            raise click.UsageError(f"no fault {name!r}{nearest(name, known)}")
    return [known[name] for name in names]


def _refuse_unasked(settings: Settings, *, yes: bool) -> None:
    given = [url for url in (settings.bus.url, settings.store.url) if url != "local"]
    if given and not yes:
        raise SettingsError(
            f"the settings name {' and '.join(given)}, where the drill would leave topics and keys "
            f"of a pipeline 'drill-…'; it kills only its own workers: say --yes, or unset them"
        )


async def _run(
    copies: Copies, settings: Settings, kinds: list[Kind], seed: int, *,
    kills: int, others: int, seconds: float, rate: float,
) -> dict[str, Any]:  # fmt: skip
    async with opened(settings) as (services, folder):
        left_out = [why for kind in kinds if (why := services.left_out(kind))]
        for why in left_out:
            click.echo(why)
        kinds = [kind for kind in kinds if not services.left_out(kind)]
        plan = make_plan(seed, kinds, kills=kills, others=others, seconds=seconds)
        if not plan.faults:
            raise SettingsError("no fault is left, so the drill would prove nothing; see --faults")
        facts = await _drilled(copies, folder, plan, services, rate)
        return {"pipeline": str(copies.file), **facts, "left_out": left_out}


async def _drilled(
    copies: Copies, folder: Path, plan: Plan, services: Services, rate: float
) -> dict[str, Any]:
    target, calm = copies.made(folder, services)
    click.echo(f"drilling {target.name}: {len(plan.faults)} faults for {', '.join(plan.workers)}")
    outcome = await run_plan(
        plan, target, calm, services, rate_per_s=rate, tell=lambda s: click.echo(line(s))
    )
    return report(outcome)


@dataclass(frozen=True, slots=True)
class Copies:
    """What is drilled: a pipeline file, in a delivery mode."""

    file: Path
    mode: str

    def made(self, folder: Path, services: Services) -> tuple[Target, Target]:
        """The pipeline under fire, and the one of the fault-free run over its telemetry.

        The latter is delivered at least once, which is quicker and without faults the same.
        """
        name = f"drill-{uuid.uuid4().hex[:8]}"
        target = Target(copy_pipeline(self.file, folder, name, mode=self.mode), services.endpoints)
        calm = copy_pipeline(
            self.file,
            folder,
            f"{name}-calm",
            telemetry=target.topics.telemetry.name,
            mode="at-least-once",
        )
        return target, Target(calm, services.endpoints)
