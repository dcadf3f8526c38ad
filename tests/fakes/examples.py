"""Simulated telemetry of the examples, as their scripts make it."""

from __future__ import annotations

import sys
from pathlib import Path

import headrace.streams

# The scripts of the examples import each other by name, as scripts do.
sys.path.insert(0, str(Path(headrace.streams.__file__).parents[1] / "examples" / "training"))

from labelled import Sent, load_simulation

EXAMPLES = Path(headrace.streams.__file__).parents[1] / "examples"


def simulated(example: str, seed: int = 2, **size: float) -> list[Sent]:
    """What the example's simulation sends."""
    return load_simulation(EXAMPLES / example).simulate(seed, **size)


def write_events(file: Path, log: list[Sent]) -> None:
    """One record a line, for `headrace produce file`."""
    file.write_bytes(b"".join(sent.value() + b"\n" for sent in log))
