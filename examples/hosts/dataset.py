"""Telemetry with labels, in columns: what the recording gives and the simulation makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

METRICS = ("load", "ops_per_s", "bytes_per_s", "pressure", "memory")
KINDS = ("core", "disk", "net", "host", "process")

RISE_MS = 1200
"""Until then an episode is judged neither way: this long is what tells it from a blip."""
CHANGE_MS = 5000
"""From then to this long after its start it is a change; later it is the new normal."""
AFTER_MS = 3000
"""After its end, the time until the windows have forgotten it."""

AFFECTED: dict[str, tuple[str, ...]] = {
    "burn-one": ("core-first", "host"),
    "burn-all": ("core", "host"),
    "disk": ("disk",),
    "net": ("net-lo",),
    "memory": ("host",),
}
"""Which devices a disturbance must be seen on."""

STRANGE_CORES = 0.5
"""Other work on the machine at or above this, over a second, is a disturbance without a label."""
STRANGE_BEFORE_MS, STRANGE_AFTER_MS = 500, 5000
"""Rows this long before and after it are not judged, nor is the delay of an episode it touches."""


@dataclass(slots=True)
class Telemetry:
    """Labelled telemetry, in the order of time within each run.

    Attributes:
        run: int64 (N,), runs are independent of each other.
        time_ms: int64 (N,), milliseconds since the start of the run.
        device: int64 (N,), device within the run.
        kind: int64 (N,), index into `KINDS`.
        metrics: float64 (N, 5), columns as in `METRICS`.
        label: int8 (N,), 1 change, 0 rest, -1 not judged.
        episode: int64 (N,), episode that the row must show, from its start on; else -1.
        episodes: Kind of each episode.
        onset_ms: int64 (E,), start of each episode within its run.
    """

    run: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    device: NDArray[np.int64]
    kind: NDArray[np.int64]
    metrics: NDArray[np.float64]
    label: NDArray[np.int8]
    episode: NDArray[np.int64]
    episodes: list[str]
    onset_ms: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.run)

    def rows(self, keep: NDArray[np.bool_]) -> Telemetry:
        """The rows where `keep` is true; episodes keep their numbers."""
        return Telemetry(
            self.run[keep],
            self.time_ms[keep],
            self.device[keep],
            self.kind[keep],
            self.metrics[keep],
            self.label[keep],
            self.episode[keep],
            self.episodes,
            self.onset_ms,
        )


def load_recording(file: Path) -> Telemetry:
    """A file that `record.py` wrote, with its labels."""
    with np.load(file) as columns:
        names, kinds = columns["devices"].tolist(), columns["kinds"].tolist()
        device = columns["device"].astype(np.int64)
        telemetry = Telemetry(
            run=columns["run"].astype(np.int64),
            time_ms=columns["time_ms"].astype(np.int64),
            device=device,
            kind=np.array([KINDS.index(kind) for kind in kinds])[device],
            metrics=columns["metrics"].astype(np.float64),
            label=np.zeros(len(device), np.int8),
            episode=np.full(len(device), -1, np.int64),
            episodes=columns["episode_kind"].tolist(),
            onset_ms=columns["episode_ms"][:, 0].astype(np.int64),
        )
        strange = [columns[f"strange_{what}"] for what in ("run", "ms", "s")]
        spans = list(zip(columns["episode_run"].tolist(), columns["episode_ms"], strict=True))
    for number, (run, (start_ms, end_ms)) in enumerate(spans):
        affected = AFFECTED[telemetry.episodes[number]]
        seen = [n for n, name in enumerate(names) if is_affected(name, affected)]
        mark(telemetry, number, run, int(start_ms), int(end_ms), np.isin(device, seen))
    for run in np.unique(strange[0]).tolist():
        _pass_over_strange(telemetry, run, *(column[strange[0] == run] for column in strange[1:]))
    return telemetry


def _pass_over_strange(
    telemetry: Telemetry, run: int, time_ms: NDArray[np.int32], used_s: NDArray[np.float32]
) -> None:
    """Do not judge rows near work that was neither ours nor labelled."""
    cores = np.convolve(used_s, np.ones(10), "same")
    busy_ms = time_ms[cores >= STRANGE_CORES]
    rows = np.flatnonzero(telemetry.run == run)
    first = np.searchsorted(busy_ms, telemetry.time_ms[rows] - STRANGE_AFTER_MS)
    last = np.searchsorted(busy_ms, telemetry.time_ms[rows] + STRANGE_BEFORE_MS, "right")
    near = rows[last > first]
    telemetry.label[near] = -1
    telemetry.episode[np.isin(telemetry.episode, telemetry.episode[near])] = -1


def is_affected(name: str, affected: tuple[str, ...]) -> bool:
    """A device, by name, is one that the disturbance must be seen on.

    Example:
        >>> is_affected("core-1", ("core-first", "host")), is_affected("core-1", ("core", "host"))
        (False, True)
    """
    return (
        name in affected
        or name.split("-")[0] in affected
        or (name == "core-0" and "core-first" in affected)
    )


def mark(
    telemetry: Telemetry,
    number: int,
    run: int,
    start_ms: int,
    end_ms: int,
    affected: NDArray[np.bool_],
) -> None:
    """Label the rows of one episode: change on affected devices, not judged around it."""
    since_ms = telemetry.time_ms - start_ms
    inside = (telemetry.run == run) & (since_ms >= -200)
    inside &= telemetry.time_ms < end_ms + AFTER_MS
    telemetry.label[inside] = -1
    shown = inside & affected & (since_ms >= 0)
    shown &= (since_ms < CHANGE_MS) & (telemetry.time_ms < end_ms)
    telemetry.episode[shown] = number
    telemetry.label[shown & (since_ms >= RISE_MS)] = 1
