"""A line of presses: one event per stroke, a camera's and an accelerometer's view of it."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
from labelled import NORMAL, START_MS, UNJUDGED, Sent, iso
from numpy.typing import NDArray

TRAIN = {"count": 60, "minutes": 20.0}

STROKE_MS = 1000
WARM_UP = 60
"""Strokes before a press may break: its features need a past to differ from."""
GRACE, LENGTH, REPAIR = 2, 20, 40
"""Strokes of an episode that are not judged, that are in all, and of which none is judged then."""
FAULTS = ("crack", "bearing", "debris")
METRICS = ("temperature_c", "vibration_g", "edge_gap_mm", "scratch_share")

F64 = NDArray[np.float64]


def simulate(seed: int, *, count: float = 4, minutes: float = 1.0) -> list[Sent]:
    """Strokes of `count` presses on lines a, b and c, some of which break now and then.

    A crack of the die opens the edge and shakes the press; a bearing heats and shakes; debris
    scratches the sheet. Normal are: another product, glints that the camera takes for a
    scratch for one stroke, slow drift, and an accelerometer that misses a stroke.
    """
    chance, strokes = np.random.default_rng(seed), round(minutes * 60_000 / STROKE_MS)
    presses = [_press(number, strokes, chance) for number in range(round(count))]
    return sorted(chain.from_iterable(presses), key=lambda sent: (sent.at_ms, sent.key))


def _press(number: int, strokes: int, chance: np.random.Generator) -> list[Sent]:
    metrics = _rest(strokes, chance)
    labels, kinds = np.zeros(strokes, int), np.full(strokes, NORMAL, object)
    stroke = int(chance.integers(WARM_UP, max(strokes, WARM_UP + 1)))
    while stroke < strokes - GRACE:
        kind = FAULTS[chance.integers(len(FAULTS))]
        _break(metrics, stroke, kind, chance)
        labels[stroke : stroke + LENGTH + REPAIR] = UNJUDGED
        labels[stroke + GRACE : stroke + LENGTH] = 1
        kinds[stroke : stroke + LENGTH] = kind
        stroke += LENGTH + REPAIR + int(chance.exponential(400))
    late_ms = chance.integers(1, 8, strokes)
    offset_ms = int(chance.integers(STROKE_MS))
    return [
        _sent(
            f"press-{number:02d}", number, at, offset_ms, int(late_ms[at]), metrics, kinds, labels
        )
        for at in range(strokes)
    ]


def _rest(strokes: int, chance: np.random.Generator) -> dict[str, F64]:
    """Each metric of a sound press, (T,); NaN where the accelerometer missed the stroke."""
    product = 1 + 0.1 * chance.normal() * (np.arange(strokes) > chance.integers(strokes))
    drift = 1 + 0.05 * np.sin(np.arange(strokes) / chance.uniform(100, 400))
    spread = np.exp(chance.normal(0, (0.01, 0.08, 0.12, 0.25), (strokes, 4)))
    temperature = chance.uniform(55, 85) * drift * spread[:, 0]
    vibration = chance.uniform(0.15, 0.6) * product * spread[:, 1]
    edge = chance.uniform(0.05, 0.15) * product * spread[:, 2]
    scratch = np.exp(chance.uniform(-6.5, -4.5)) * spread[:, 3]
    glint = chance.random(strokes) < 0.004
    scratch = np.minimum(1, np.where(glint, scratch * chance.uniform(4, 15, strokes), scratch))
    vibration = np.where(chance.random(strokes) < 0.01, np.nan, vibration)
    return dict(zip(METRICS, (temperature, vibration, edge, scratch), strict=True))


def _break(metrics: dict[str, F64], start: int, kind: str, chance: np.random.Generator) -> None:
    """Put an episode into the metrics, in place."""
    span = slice(start, start + LENGTH)
    age = np.arange(len(metrics["vibration_g"][span]))
    if kind == "crack":
        metrics["edge_gap_mm"][span] += chance.uniform(0.06, 0.3) * np.minimum(1, (age + 1) / 3)
        metrics["vibration_g"][span] *= 1 + chance.uniform(0.1, 0.9)
    elif kind == "bearing":
        metrics["vibration_g"][span] *= 1 + chance.uniform(0.5, 2.5) * np.minimum(1, (age + 1) / 6)
        metrics["temperature_c"][span] += chance.uniform(1, 6) * age / LENGTH
    else:
        scratched = metrics["scratch_share"][span] * chance.uniform(2.5, 12)
        metrics["scratch_share"][span] = np.minimum(1, scratched)


def _sent(
    press: str,
    number: int,
    stroke: int,
    offset_ms: int,
    late_ms: int,
    metrics: dict[str, F64],
    kinds: NDArray[np.object_],
    labels: NDArray[np.int_],
) -> Sent:
    time_ms = START_MS + stroke * STROKE_MS + offset_ms
    found = {
        name: round(float(values[stroke]), 5)
        for name, values in metrics.items()
        if not np.isnan(values[stroke])
    }
    event: dict[str, Any] = {
        "id": f"{press}-{stroke:06d}",
        "device_id": press,
        "time": iso(time_ms),
        "line": "abc"[number // 2 % 3],
        "operator": f"operator {number % 5}",
        "metrics": found,
        "frame": "the camera's picture, which stays here",
    }
    return Sent(time_ms + late_ms, press, event, str(kinds[stroke]), int(labels[stroke]))
