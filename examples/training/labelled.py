"""Simulated telemetry with labels: what a simulation gives, training and tests read."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import orjson

START_MS = 1_749_981_600_000
"""When every simulation begins, 2025-06-15T10:00Z; no feature of the pipelines knows the date."""

NORMAL = "normal"
UNJUDGED = -1


@dataclass(frozen=True, slots=True)
class Sent:
    """One record as it reaches the bus; what was planted is known, and not in the record.

    Attributes:
        at_ms: When it is sent, milliseconds since 1970; never before its event's time.
        key: Entity, the record's key.
        event: The JSON object; its ``id`` names the event, also where it is sent twice.
        kind: `NORMAL`, or the episode it belongs to.
        label: 1 to be found, 0 not, `UNJUDGED` where neither answer is wrong.
    """

    at_ms: int
    key: str
    event: dict[str, Any]
    kind: str = NORMAL
    label: int = 0

    def value(self) -> bytes:
        """The record's value."""
        return orjson.dumps(self.event)


class Simulation(Protocol):
    """What every example's ``simulation.py`` has; the same seed gives the same records."""

    TRAIN: dict[str, float]
    """Arguments of `simulate` besides the seed that make the telemetry for training."""

    def simulate(self, seed: int, **size: float) -> list[Sent]:
        """Records in the order in which they are sent."""


def load_simulation(folder: Path) -> Simulation:
    """The ``simulation.py`` of an example's folder, under a name that no other example has."""
    name = f"{folder.name}_simulation"
    spec = importlib.util.spec_from_file_location(name, folder / "simulation.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{str(folder)!r} has no simulation.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def iso(time_ms: int) -> str:
    """RFC 3339 text of a time, in milliseconds.

    Example:
        >>> iso(START_MS + 5)
        '2025-06-15T10:00:00.005Z'
    """
    text = datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
