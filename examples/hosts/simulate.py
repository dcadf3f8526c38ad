"""Seeded telemetry of machines that were not here to be recorded.

One machine teaches one kind of rest. The simulation varies what a recording cannot: number of
cores, busy and idle machines, schedulers that flicker, starts, blips just too short to count,
slow growth. Levels are drawn per device, so the model learns changes and not levels.
"""

from __future__ import annotations

import numpy as np
from dataset import CHANGE_MS, KINDS, METRICS, RISE_MS, Telemetry
from numpy.typing import NDArray

PERIOD_MS = 100
TICKS = 400
BUSY = 0.4
"""A device that is this busy at rest has longer blips."""
LEAST_RISE = 0.35
"""A change of a core's, host's or process's load by less is judged neither way."""
LEAST_MEMORY = 0.02
"""The same for its share of memory."""
LENGTH_TICKS = CHANGE_MS // PERIOD_MS + 1
FIRST_TICK, LAST_TICK = 80, TICKS - LENGTH_TICKS - 40

F64 = NDArray[np.float64]


def simulate(devices: int, seed: int) -> Telemetry:
    """`devices` devices of every kind for 40 s each, half of them with one lasting change.

    Args:
        devices: Devices per kind.
        seed: The same seed gives the same telemetry.
    """
    chance = np.random.default_rng(seed)
    parts = [_kind(number, devices, chance) for number in range(len(KINDS))]
    metrics = np.concatenate([metrics for metrics, _ in parts])
    onset = np.concatenate([onset for _, onset in parts])
    jitter_ms = chance.integers(0, PERIOD_MS, (len(metrics), 1))
    jitter_ms = jitter_ms + chance.integers(0, 4, (len(metrics), TICKS))
    return _telemetry(metrics, onset, np.repeat(np.arange(len(KINDS)), devices), jitter_ms)


def _kind(kind: int, devices: int, chance: np.random.Generator) -> tuple[F64, NDArray[np.int64]]:
    """Metrics (D, T, 5) of one kind, and the tick at which each device changes (-1: never)."""
    onset = np.where(
        chance.random(devices) < 0.5, chance.integers(FIRST_TICK, LAST_TICK, devices), -1
    )
    tick = np.arange(TICKS)
    changed = (onset[:, None] >= 0) & (tick >= onset[:, None])
    changed &= tick < onset[:, None] + LENGTH_TICKS
    name = KINDS[kind]
    by_memory = chance.random(devices) < (0.4 if name == "host" else 0.0)
    load = _load(name, devices, chance, changed & ~by_memory[:, None])
    memory = _memory(name, devices, chance, changed & by_memory[:, None])
    scale = np.exp(chance.normal(5, 2, (3, devices, 1)))
    noise = np.exp(chance.normal(0, 0.4, (3, devices, TICKS)))
    operations, moved = scale[:2] * (0.05 + load) * noise[:2]
    waiting = load * noise[2] * chance.choice([0.0, 0.05, 2.0], (devices, 1), p=[0.6, 0.2, 0.2])
    moved = np.zeros_like(moved) if name == "core" else moved
    return np.stack([load, operations, moved, waiting, memory], axis=2), onset


def _load(name: str, devices: int, chance: np.random.Generator, changed: NDArray[np.bool_]) -> F64:
    """Load (D, T): rest, blips, a busy start, and the change."""
    small = name in ("disk", "net")
    ceiling = np.full((devices, 1), 1.0)
    if name == "net":
        ceiling = 10 ** chance.uniform(-1.0, 0.5, (devices, 1))
    load = _rest(devices, chance, idle=0.9 if small else 0.4)
    longest = np.where(load.mean(axis=1) > BUSY, 30, 6 if small else 12)
    load = np.maximum(load, _blips(longest, chance))
    busy_start = chance.integers(0, 45, (devices, 1)) * (chance.random((devices, 1)) < 0.5)
    load = np.where(np.arange(TICKS) < busy_start, chance.beta(12, 1, load.shape), load)
    if small:
        load *= chance.choice([0.02, 0.2, 1.0], (devices, 1)) if name == "disk" else 0.03
    cores = chance.integers(1, 5, (devices, 1)) if name == "host" else np.ones((devices, 1))
    if name == "host":
        load = _averaged(load, cores, chance)
    share = chance.uniform(0.5, 1.0, (devices, 1)) if name in ("host", "disk") else 1.0
    level = np.clip(share * ceiling * (1 - 0.05 * chance.exponential(1.0, load.shape)), 0, None)
    taken = load + level if name == "host" else np.maximum(load, level)
    load = np.where(changed, np.minimum(taken, ceiling), load)
    # Half of the kernels count in ticks of 10 ms: ten of them in a period.
    counted = chance.random((devices, 1)) < (0.0 if small else 0.5)
    steps = 10 * cores
    return np.asarray(np.where(counted, np.round(load * steps) / steps, load))


def _rest(devices: int, chance: np.random.Generator, *, idle: float) -> F64:
    """Load at rest (D, T): idle, or a level with noise, or a telegraph between two levels."""
    level = np.where(
        chance.random((devices, 1)) < idle,
        chance.exponential(0.02, (devices, 1)),
        chance.beta(1.2, 2.0, (devices, 1)),
    )
    drift = np.cumsum(chance.normal(0, 0.004, (devices, TICKS)), axis=1)
    spread = chance.choice([0.3, 1.0], (devices, 1))
    load = (level + drift * level) * np.exp(chance.normal(0, 0.5, (devices, TICKS)) * spread)
    dwell = chance.uniform(0.25, 0.6, (devices, 1))
    flips = np.cumsum(chance.random((devices, TICKS)) < dwell, axis=1) % 2
    telegraph = (chance.random((devices, 1)) < 0.25) & (flips == 1)
    high = chance.uniform(0.5, 1.0, (devices, 1))
    return np.asarray(np.clip(np.where(telegraph, np.maximum(load, high), load), 0, 1))


def _blips(longest: NDArray[np.int64], chance: np.random.Generator) -> F64:
    """Full load for up to `longest` (D,) ticks, some devices often, some never (D, T)."""
    often = chance.choice([0.0, 0.003, 0.01], (len(longest), 1))
    starts = chance.random((len(longest), TICKS)) < often
    blips = np.zeros((len(longest), TICKS))
    for device, tick in np.argwhere(starts):
        end = tick + chance.integers(1, longest[device])
        blips[device, tick:end] = chance.uniform(0.6, 1.0)
        blips[device, end : tick + longest[device] + 8] = 0.0
    return blips


def _averaged(load: F64, cores: NDArray[np.int64] | F64, chance: np.random.Generator) -> F64:
    """A host's load from its first core's and a rest for the others of the same level."""
    others = np.clip(
        load.mean(axis=1, keepdims=True) * np.exp(chance.normal(0, 0.5, load.shape)), 0, 1
    )
    return np.asarray((load + (cores - 1) * others) / cores)


def _memory(
    name: str, devices: int, chance: np.random.Generator, changed: NDArray[np.bool_]
) -> F64:
    """Share of memory (D, T): slow growth, a start, and a fast rise that lasts."""
    if name not in ("host", "process"):
        return np.zeros((devices, TICKS))
    level = chance.beta(1.5, 4.0, (devices, 1)) * (1.0 if name == "host" else 0.1)
    growth = chance.normal(0, 3e-5, (devices, 1)) * np.arange(TICKS)
    growth += chance.normal(0, 1e-4, (devices, TICKS))
    start = chance.uniform(0, 0.08, (devices, 1)) * (chance.random((devices, 1)) < 0.4)
    started = np.minimum(np.arange(TICKS) / chance.uniform(5, 40, (devices, 1)), 1.0)
    since = np.cumsum(changed, axis=1)
    rise = chance.uniform(0.05, 0.3, (devices, 1))
    risen = rise * np.minimum(since / chance.uniform(3, 20, (devices, 1)), 1.0) * changed
    return np.clip(level + growth + start * started + risen, 0, 1)


def _is_marked(
    metrics: F64, onset: NDArray[np.int64], kind: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Devices (D,) whose change is large enough to be asked for: a busy core can rise no more."""
    tick = np.arange(TICKS)
    before = (tick >= onset[:, None] - LENGTH_TICKS) & (tick < onset[:, None])
    during = (tick >= onset[:, None]) & (tick < onset[:, None] + LENGTH_TICKS)
    rise = np.stack(
        [
            (metrics[:, :, column] * during).sum(axis=1) / LENGTH_TICKS
            - (metrics[:, :, column] * before).sum(axis=1) / LENGTH_TICKS
            for column in (METRICS.index("load"), METRICS.index("memory"))
        ]
    )
    counts_cores = np.isin(kind, [KINDS.index(name) for name in ("core", "host", "process")])
    return np.asarray(~counts_cores | (rise[0] >= LEAST_RISE) | (rise[1] >= LEAST_MEMORY))


def _telemetry(
    metrics: F64,
    onset: NDArray[np.int64],
    kind: NDArray[np.int64],
    jitter_ms: NDArray[np.int64],
) -> Telemetry:
    """Rows tick by tick, with labels, from metrics (D, T, 5)."""
    devices = len(metrics)
    tick = np.repeat(np.arange(TICKS), devices)
    device = np.tile(np.arange(devices), TICKS)
    since_ms = (tick - onset[device]) * PERIOD_MS
    in_episode = onset[device] >= 0
    shown = in_episode & _is_marked(metrics, onset, kind)[device]
    shown &= (since_ms >= 0) & (since_ms < CHANGE_MS)
    change = shown & (since_ms >= RISE_MS)
    judged = ~(in_episode & (since_ms >= 0) & (since_ms < CHANGE_MS + 4000))
    return Telemetry(
        run=np.zeros(len(tick), np.int64),
        time_ms=tick * PERIOD_MS + jitter_ms[device, tick],
        device=device,
        kind=kind[device],
        metrics=metrics.transpose(1, 0, 2).reshape(-1, metrics.shape[2]),
        label=np.where(change, 1, np.where(judged, 0, -1)).astype(np.int8),
        episode=np.where(shown, device, -1),
        episodes=[f"simulated-{KINDS[k]}" for k in kind],
        onset_ms=np.maximum(onset, 0) * PERIOD_MS,
    )
