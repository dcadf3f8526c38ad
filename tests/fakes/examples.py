"""Simulated telemetry of the examples, as their scripts make it."""

from __future__ import annotations

import sys
from pathlib import Path

# The scripts of the examples import each other by name, as scripts do. They are no part of the
# wheel, whichever package is tested.
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "training"))

from labelled import Sent, load_simulation

EXAMPLES = Path(__file__).parents[2] / "examples"


def simulated(example: str, seed: int = 2, **size: float) -> list[Sent]:
    """What the example's simulation sends."""
    return load_simulation(EXAMPLES / example).simulate(seed, **size)


def write_events(file: Path, log: list[Sent]) -> None:
    """One record a line, for `headrace produce file`."""
    file.write_bytes(b"".join(sent.value() + b"\n" for sent in log))
