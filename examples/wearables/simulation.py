"""People with a wearable, and a link that comes and goes: bursts, late events and repeats."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from labelled import NORMAL, START_MS, UNJUDGED, Sent
from numpy.typing import NDArray

TRAIN = {"count": 120, "minutes": 90.0}

SAMPLE_MS = 5000
WARM_UP = 180
"""Samples before anybody falls ill: a quarter of an hour, in which the features learn a person."""
GRACE, LENGTH, AFTER = 12, 60, 120
"""Samples of an episode that are not judged, that are in all, and of which none is judged then."""
REPEATED = 8
"""Samples that were sent, but not acknowledged, when the link broke: they come again."""
ILLS = ("tachycardia", "desaturation", "fever")
ACTIVITIES = {"sleep": (-8.0, 0.0), "rest": (0.0, 4.0), "walk": (25.0, 105.0), "run": (70.0, 165.0)}
"""What somebody does: rise of the heart rate, per minute, and steps per minute."""
METRICS = ("heart_bpm", "hrv_ms", "spo2_pct", "skin_c", "steps_per_min")

F64 = NDArray[np.float64]


@dataclass(slots=True)
class _Wearer:
    """One person's samples, in the order of their time."""

    number: int
    vitals: F64
    kinds: NDArray[np.object_]
    labels: NDArray[np.int_]


def simulate(seed: int, *, count: float = 6, minutes: float = 20.0) -> list[Sent]:
    """Vitals of `count` people, every five seconds, as the link lets them through.

    Ill is: a fast heart without a step, oxygen that falls and stays low, a fever. Healthy are:
    sport, sleep, a sensor that slips for a sample, and oxygen that is not measured in motion.
    Off line, samples are kept; they come in one burst, the last unacknowledged ones again.
    """
    chance, samples = np.random.default_rng(seed), round(minutes * 60_000 / SAMPLE_MS)
    sent = chain.from_iterable(
        _linked(_wearer(number, samples, chance), chance) for number in range(round(count))
    )
    return sorted(sent, key=lambda one: (one.at_ms, one.key))


def _wearer(number: int, samples: int, chance: np.random.Generator) -> _Wearer:
    vitals = _healthy(samples, chance)
    labels, kinds = np.zeros(samples, int), np.full(samples, NORMAL, object)
    at = WARM_UP + int(chance.exponential(360))
    while at < samples - GRACE:
        kind = ILLS[chance.integers(len(ILLS))]
        _fall_ill(vitals[at : at + LENGTH], kind, chance)
        labels[at : at + LENGTH + AFTER] = UNJUDGED
        labels[at + GRACE : at + LENGTH] = 1
        kinds[at : at + LENGTH] = kind
        at += LENGTH + AFTER + int(chance.exponential(360))
    slipped = chance.random(samples) < 0.005
    vitals[slipped, 2] = chance.uniform(70, 92, int(slipped.sum()))
    vitals[vitals[:, 4] > 120, 2] = np.nan
    return _Wearer(number, vitals, kinds, labels)


def _healthy(samples: int, chance: np.random.Generator) -> F64:
    """Vitals (T, 5), columns as in `METRICS`; the heart follows what is done with a delay."""
    names, pulse, steps, at = list(ACTIVITIES), np.empty(samples), np.empty(samples), 0
    while at < samples:
        rise, pace = ACTIVITIES[names[chance.choice(4, p=(0.2, 0.5, 0.25, 0.05))]]
        end = at + int(chance.integers(24, 240))
        pulse[at:end] = rise * chance.uniform(0.7, 1.3)
        steps[at:end] = pace * chance.uniform(0.8, 1.2)
        at = end
    delayed, level = np.empty(samples), pulse[0]
    for tick, wanted in enumerate(pulse):
        level += 0.12 * (wanted - level)
        delayed[tick] = level
    heart = chance.uniform(55, 80) + delayed + chance.normal(0, 2.5, samples)
    variability = chance.uniform(30, 80) * 60 / heart * np.exp(chance.normal(0, 0.15, samples))
    oxygen = chance.uniform(95.5, 98.5) + chance.normal(0, 0.5, samples)
    skin = chance.uniform(32.5, 34.5) + 0.004 * delayed + np.cumsum(chance.normal(0, 0.01, samples))
    taken = np.maximum(0, steps + chance.normal(0, 3, samples) * (steps > 0))
    return np.stack([heart, variability, np.minimum(100, oxygen), skin, taken], axis=1)


def _fall_ill(vitals: F64, kind: str, chance: np.random.Generator) -> None:
    """Put an episode into the vitals (T, 5), in place."""
    rise = np.minimum(1, (np.arange(len(vitals)) + 1) / GRACE)
    if kind == "tachycardia":
        vitals[:, 0] += chance.uniform(35, 80) * rise
        vitals[:, 1] *= 1 - chance.uniform(0.3, 0.6) * rise
        vitals[:, 4] = 0
    elif kind == "desaturation":
        vitals[:, 2] -= chance.uniform(4, 12) * rise
        vitals[:, 4] = np.minimum(vitals[:, 4], 90)
    else:
        vitals[:, 3] += chance.uniform(1.0, 2.5) * rise
        vitals[:, 0] += chance.uniform(8, 20) * rise


def _linked(wearer: _Wearer, chance: np.random.Generator) -> list[Sent]:
    """The wearer's samples when the link lets them through, in bursts, some of them twice."""
    records, at, samples = [], 0, len(wearer.vitals)
    offset_ms = int(chance.integers(SAMPLE_MS))
    while at < samples:
        lost = min(samples, at + int(chance.exponential(120)) + 2)
        back = min(samples, lost + int(chance.exponential(24)) + 1)
        if chance.random() < 0.03:
            back = min(samples, back + 240)  # longer than the pipeline waits: some come late
        kept = range(max(at, lost - REPEATED), back)
        sent = [(sample, sample) for sample in range(at, lost)] + [(one, back) for one in kept]
        records += [_sent(wearer, sample, offset_ms, when, chance) for sample, when in sent]
        at = back
    return records


def _sent(
    wearer: _Wearer, sample: int, offset_ms: int, when: int, chance: np.random.Generator
) -> Sent:
    """One sample, sent at the time of sample `when`."""
    name = f"w-{wearer.number:04d}"
    time_ms = START_MS + sample * SAMPLE_MS + offset_ms
    found = zip(METRICS, wearer.vitals[sample].tolist(), strict=True)
    event: dict[str, Any] = {
        "id": f"{name}-{sample:06d}",
        "wearer": name,
        "time": time_ms,
        "cohort": ("day", "night", "sport")[wearer.number % 3],
        "person": {"name": f"person {wearer.number}", "position": [48.1, 11.6]},
        "vitals": {metric: round(value, 2) for metric, value in found if value == value},
        "ppg": "the sensor's raw curve, which stays here",
    }
    at_ms = START_MS + when * SAMPLE_MS + offset_ms + int(chance.integers(20, 200))
    return Sent(at_ms, name, event, str(wearer.kinds[sample]), int(wearer.labels[sample]))
