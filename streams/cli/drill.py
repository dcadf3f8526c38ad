"""`headrace drill`: seeded faults under seeded load, and a ledger of every event."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
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
from headrace.streams.drill.campaign import RATE_PER_S, run_anew, run_plan
from headrace.streams.drill.kinds import KINDS, Kind
from headrace.streams.drill.load import Fleet
from headrace.streams.drill.pipeline_copy import copy_pipeline
from headrace.streams.drill.report import line, report, verdict
from headrace.streams.drill.schedule import Plan, make_plan
from headrace.streams.drill.services import Services, opened
from headrace.streams.drill.target import Target

FAULTS_EVERY_S, SOAK_FAULTS_EVERY_S = 60.0, 300.0
"""Of every kind but ``kill`` there is one in so long a time."""

SOAK_RATE_PER_S = 100.0

MODES = {
    "default": "at-least-once",
    "at-least-once": "at-least-once",
    "exactly-once": "exactly-once",
}

MOST_EVENTS = 400_000
"""About 5 KB of memory each: what was sent, what it became, twice."""


@click.command()
@click.argument("pipeline", default="hosts")
@click.option("--kills", type=click.IntRange(0, 1000), default=26, show_default=True,
              help="Workers killed: 26 meet every crash point once.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same faults.")
@click.option("--seconds", type=click.FloatRange(0, 3000), default=60.0, show_default=True,
              help="Time over which faults are spread; more where they take longer.")  # fmt: skip
@click.option("--faults", default=",".join(KINDS), show_default="all",
              help=f"Kinds of faults, with commas: {', '.join(KINDS)}.")  # fmt: skip
@click.option("--rate", type=click.FloatRange(1, 20_000), default=None,
              help="Events per second: 1000, of a soak 100.")  # fmt: skip
@click.option("--soak", type=click.FloatRange(1, 45), default=None, metavar="MINUTES",
              help="Random faults for so long, and memory; not --kills, --seconds.")  # fmt: skip
@click.option("--mode", type=click.Choice(list(MODES)), default=None,
              help="Delivery mode; left out, the one of PIPELINE.")  # fmt: skip
@click.option("--yes", is_flag=True, help="Run on the bus or store that the settings name.")
@click.option("--json", "as_json", is_flag=True, help="Last line of output is one JSON object.")
def drill(
    pipeline: str, kills: int, seed: int, seconds: float, faults: str, rate: float | None,
    soak: float | None, mode: str | None, yes: bool, as_json: bool,
) -> int:  # fmt: skip
    """Do to a pipeline what may happen to it, under load, and count what that cost.

    Runs the flow of PIPELINE under a name of its own, with made-up events, on a Kafka and a store
    of its own. Exit code 0 only if nothing was lost, differs, is out of order, or came twice out
    of the consumer.
    """
    began_s = time.monotonic()
    course = (
        Course(_kinds(faults), seed, kills=kills, seconds=seconds, rate=rate or RATE_PER_S)
        if soak is None
        else soaked(_kinds(faults), seed, minutes=soak, rate=rate or SOAK_RATE_PER_S)
    )
    if course.seconds * course.rate > MOST_EVENTS:
        raise click.UsageError(
            f"{course.seconds:g} s of {course.rate:g} events/s are more than {MOST_EVENTS}, which "
            f"the ledger holds in memory; lower --rate or --seconds"
        )
    file, settings = pipeline_file(pipeline), load()
    _refuse_unasked(settings, yes=yes)
    mode = MODES[mode] if mode else load_pipeline(file).delivery.mode
    found = run(_run(Copies(file, mode), settings, course))
    if found is None:
        raise click.Abort
    facts = {"mode": mode, **found, "seconds": round(time.monotonic() - began_s, 1)}
    for breach in facts["breaches"]:
        click.echo(f"breach: {breach}")
    click.echo(verdict(facts))
    if as_json:
        click.echo(json.dumps(facts))
    return 1 if facts["breaches"] else 0


@dataclass(frozen=True, slots=True)
class Course:
    """What a drill is to go through; attributes as of `make_plan`, and events per second."""

    kinds: Sequence[Kind]
    seed: int
    kills: int
    seconds: float
    rate: float
    lasting: bool = False

    def plan(self, kinds: Sequence[Kind]) -> Plan:
        """Its faults, of those kinds that the services allow."""
        every_s = SOAK_FAULTS_EVERY_S if self.lasting else FAULTS_EVERY_S
        return make_plan(
            self.seed,
            kinds,
            kills=self.kills,
            others=max(1, int(self.seconds // every_s)),
            seconds=self.seconds,
            lasting=self.lasting,
        )


def soaked(kinds: Sequence[Kind], seed: int, *, minutes: float, rate: float) -> Course:
    """The course of a soak: a kill a minute, and nothing that ends every worker of a stage."""
    lasting = [kind for kind in kinds if kind != "group-deleted"]
    return Course(lasting, seed, round(minutes), minutes * 60, rate, lasting=True)


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


async def _run(copies: Copies, settings: Settings, course: Course) -> dict[str, Any]:
    async with opened(settings, course.kinds) as (services, folder):
        left_out = [why for kind in course.kinds if (why := services.left_out(kind))]
        if load_pipeline(copies.file).input.rekey:
            left_out.append("intake is left out: the drill's events have their device's key")
        for why in left_out:
            click.echo(why)
        plan = course.plan([kind for kind in course.kinds if not services.left_out(kind)])
        if not (plan.faults or plan.anew):
            raise SettingsError("no fault is left, so the drill would prove nothing; see --faults")
        facts = await _drilled(copies, folder, plan, services, course.rate)
        return {"pipeline": str(copies.file), **facts, "left_out": left_out}


async def _drilled(
    copies: Copies, folder: Path, plan: Plan, services: Services, rate: float
) -> dict[str, Any]:
    target = copies.target(folder, services)
    calm = copies.calm(folder, services, target)
    click.echo(f"drilling {target.name}: {len(plan.faults)} faults for {', '.join(plan.workers)}")
    outcomes = [
        await run_plan(
            plan, target, calm, services, rate_per_s=rate, tell=lambda s: click.echo(line(s))
        )
    ]
    made = outcomes[0].load.fates()["valid"]
    for number, kind in enumerate(plan.anew, 1):
        fleet = Fleet(target.pipeline, plan.seed + number, made)
        calm = copies.calm(folder, services, target, number)
        outcomes.append(await run_anew(kind, fleet, target, calm, services))
        click.echo(line(outcomes[-1].struck[0]))
        made = fleet.made
    return report(outcomes)


@dataclass(frozen=True, slots=True)
class Copies:
    """What is drilled: a pipeline file, in a delivery mode."""

    file: Path
    mode: str

    def target(self, folder: Path, services: Services) -> Target:
        """The pipeline under fire."""
        name = f"drill-{uuid.uuid4().hex[:8]}"
        file = copy_pipeline(self.file, folder, name, mode=self.mode)
        return Target(file, services.endpoints, services.for_workers)

    def calm(self, folder: Path, services: Services, target: Target, number: int = 0) -> Target:
        """The one of a fault-free run over the target's telemetry.

        It is delivered at least once, which is quicker and without faults the same.
        """
        name, telemetry = f"{target.name}-calm{number}", target.topics.telemetry.name
        file = copy_pipeline(self.file, folder, name, telemetry=telemetry, mode="at-least-once")
        return Target(file, services.endpoints)
