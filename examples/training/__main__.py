"""Simulated events of an example, its model, and its pace: ``python examples/training --help``.

``train`` needs the `train` extra; the features are computed by the pipeline's own enrichers.
"""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import click
from decision import computed, decisions
from fit import fit, golden
from labelled import load_simulation
from stream import featured
from worth import worth

from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.settings import load_settings

EXAMPLES = Path(__file__).resolve().parents[1]
TRAIN_SEED, TEST_SEED = 1, 2


def folder_of(example: str) -> Path:
    """The folder that a name or a path means."""
    return Path(example) if Path(example).is_dir() else EXAMPLES / example


@click.group()
def main() -> None:
    """Simulate, train and time the examples press, wearables and shops."""


@main.command()
@click.argument("example")
@click.option("--seed", default=TEST_SEED, show_default=True, help="Same seed, same bytes.")
@click.option("--minutes", type=float, default=10.0, show_default=True, help="Length.")
@click.option("--count", type=int, default=6, show_default=True, help="Presses, wearers or tills.")
@click.option("--labels", type=click.File("w"), help="Write what each event is there.")
def events(example: str, seed: int, minutes: float, count: int, labels: Any) -> None:
    """Print events, one JSON object per line, in the order in which they are sent."""
    for sent in load_simulation(folder_of(example)).simulate(seed, minutes=minutes, count=count):
        sys.stdout.buffer.write(sent.value() + b"\n")
        if labels is not None:
            fact = {"id": sent.event["id"], "kind": sent.kind, "label": sent.label}
            labels.write(json.dumps(fact) + "\n")


@main.command()
@click.argument("example")
def train(example: str) -> None:
    """Write model.onnx, golden.json and quality.json, judged on telemetry of another seed."""
    folder = folder_of(example)
    if (folder / "train.py").exists():
        sys.path.insert(0, str(folder))
        runpy.run_path(str(folder / "train.py"), run_name="__main__")
        return
    simulation, pipeline = load_simulation(folder), load_pipeline(folder / "pipeline.toml")
    seen = featured(folder / "pipeline.toml", simulation.simulate(TRAIN_SEED, **simulation.TRAIN))
    model = fit(seen.inputs, seen.labels, name=pipeline.model.name or example, seed=TRAIN_SEED)
    (folder / pipeline.model.file).write_bytes(model)
    log = simulation.simulate(TEST_SEED, **simulation.TRAIN)
    unseen = featured(folder / "pipeline.toml", log)
    report = worth(folder, unseen, len(log))
    (folder / "golden.json").write_text(json.dumps(golden(model, unseen.inputs)) + "\n", "utf-8")
    (folder / "quality.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    click.echo(json.dumps(report, indent=2))


@main.command()
@click.argument("example")
@click.option("--rate", type=float, default=50.0, show_default=True, help="Events per second.")
@click.option("--seconds", type=float, default=30.0, show_default=True, help="How long.")
@click.option("--budget-ms", type=float, default=10.0, show_default=True, help="For one decision.")
@click.option("--no-bus", is_flag=True, help="Only what is computed, in this process.")
def decide(example: str, rate: float, seconds: float, budget_ms: float, no_bus: bool) -> None:
    """Time each decision of a pipeline that runs on the bus of the settings."""
    folder = folder_of(example)
    simulated = load_simulation(folder).simulate(TEST_SEED, count=20, minutes=30.0)
    log = simulated[: round(rate * seconds)]
    if no_bus:
        work = computed(folder, log, budget_ms=budget_ms)
    else:
        pipeline = load_pipeline(folder / "pipeline.toml")
        bus = load_settings(None, os.environ).bus
        work = decisions(bus, pipeline, log, rate=rate, budget_ms=budget_ms)
    click.echo(json.dumps(asyncio.run(work)))


if __name__ == "__main__":
    main()
