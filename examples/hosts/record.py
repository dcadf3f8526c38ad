"""Record this machine's telemetry at rest and under disturbances that are really performed.

``python record.py OUT.npz [--runs N]``. Takes about a minute and a half per run. Other work on the
machine meanwhile is measured and kept beside the events, so that it is not taken for rest.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from headrace.streams.producers.disturb import Disturbance, usable_cores
from headrace.streams.producers.door import psutil
from headrace.streams.producers.host import HostSource
from headrace.streams.producers.sample import HostEvent, Sample, events

METRICS = ("load", "ops_per_s", "bytes_per_s", "pressure", "memory")
PERIOD_S = 0.1
QUIET_S = 9.0
EPISODE_S = 5.0
STRESS = Path(__file__).with_name("stress.py")


@dataclass(slots=True)
class Recording:
    """What one run gave.

    Attributes:
        events: Monotonic seconds and event, in order.
        episodes: Kind, start and end of the disturbances, monotonic seconds.
        strange: Monotonic seconds and core seconds used by everybody else so far, by sample.
        processes: Programs of our own that may still run.
    """

    events: list[tuple[float, HostEvent]] = field(default_factory=list)
    episodes: list[tuple[str, float, float]] = field(default_factory=list)
    strange: list[tuple[float, float]] = field(default_factory=list)
    processes: list[int] = field(default_factory=list)


def stress(recording: Recording, kind: str, seconds: float, seed: str) -> subprocess.Popen[bytes]:
    """Start `stress.py`."""
    command = [sys.executable, "-I", "-S", str(STRESS), kind, str(seconds), seed]
    process = subprocess.Popen(command)  # noqa: S603  our own program
    recording.processes.append(process.pid)
    return process


def disturb(recording: Recording, kind: str, seed: str) -> None:
    """Perform one disturbance; returns when it has ended."""
    if kind.startswith("burn"):
        cores = 1 if kind == "burn-one" else len(usable_cores())
        with Disturbance(seconds=EPISODE_S, cores=cores) as burning:
            recording.processes += burning.pids
            burning.wait()
    else:
        stress(recording, kind, EPISODE_S, seed).wait()


def conduct(recording: Recording, kinds: list[str], seed: str, done: threading.Event) -> None:
    """Perform the disturbances one after the other, with rest between them."""
    chance = random.Random(seed)  # noqa: S311  a schedule, no secret
    time.sleep(QUIET_S)
    for number, kind in enumerate(kinds):
        start_s = time.monotonic()
        disturb(recording, kind, f"{seed}/{number}")
        recording.episodes.append((kind, start_s, time.monotonic()))
        time.sleep(QUIET_S * chance.uniform(0.9, 1.3))
    done.set()


def record(kinds: list[str], seed: str, workers: int) -> Recording:
    """One run: `workers` processes of a pipeline at rest, and the disturbances `kinds`."""
    recording, done = Recording(), threading.Event()
    clock_offset_s = time.time_ns() / 1e9 - time.monotonic()
    source = HostSource(lambda: time.monotonic() + clock_offset_s)
    length_s = (QUIET_S * 1.3 + EPISODE_S * 1.5) * (len(kinds) + 1)
    load = [stress(recording, "service", length_s, f"{seed}/{n}") for n in range(workers)]
    threading.Thread(target=conduct, args=(recording, kinds, seed, done), daemon=True).start()
    try:
        _sample(source, recording, done)
    finally:
        for process in load:
            process.terminate()
            process.wait()
    return recording


def _sample(source: HostSource, recording: Recording, done: threading.Event) -> None:
    start_s, before = time.monotonic(), source.sample()
    for tick in itertools.count(1):
        time.sleep(max(0.0, start_s + tick * PERIOD_S - time.monotonic()))
        # `events` numbers by the sample; a recording needs its own count.
        after = source.sample()
        after = Sample(tick, after.time_s, after.at_s, after.readings)
        recording.events += [(after.at_s, e) for e in events(before, after, run="recorded")]
        recording.strange.append((after.at_s, after.readings["host"].busy_s - _own_s(recording)))
        before = after
        if done.is_set():
            return


def _own_s(recording: Recording) -> float:
    """Core seconds that the recorder and its programs have used so far, ended ones included."""
    used_s = 0.0
    for pid in recording.processes:
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            continue
        used_s += times.user + times.system
    return used_s + sum(os.times()[:4])


def columns(recordings: list[Recording]) -> dict[str, np.ndarray]:
    """All recordings as columns, with no personal and no raw field; process ids numbered."""
    rows = [(run, at, e) for run, r in enumerate(recordings) for at, e in r.events]
    names = sorted({e.device_id for _, _, e in rows if e.kind != "process"})
    secret = list(dict.fromkeys(e.device_id for _, _, e in rows if e.kind == "process"))
    code = {name: n for n, name in enumerate(names + secret)}
    starts = [r.events[0][0] for r in recordings]
    marks = [
        (run, kind, round((a - starts[run]) * 1000), round((b - starts[run]) * 1000))
        for run, r in enumerate(recordings)
        for kind, a, b in r.episodes
    ]
    strange = [
        (run, round((at - starts[run]) * 1000), used)
        for run, r in enumerate(recordings)
        for at, used in zip(
            [at for at, _ in r.strange][1:], np.diff([used for _, used in r.strange]), strict=True
        )
    ]
    return {
        "run": np.array([run for run, _, _ in rows], np.uint8),
        "time_ms": np.array([round((at - starts[run]) * 1000) for run, at, _ in rows], np.int32),
        "device": np.array([code[e.device_id] for _, _, e in rows], np.uint16),
        "metrics": np.array([[e.metrics[m] for m in METRICS] for _, _, e in rows], np.float32),
        "devices": np.array(names + [f"proc-{n}" for n in range(len(secret))]),
        "kinds": np.array([n.split("-")[0] for n in names] + ["process"] * len(secret)),
        "episode_run": np.array([m[0] for m in marks], np.uint8),
        "episode_kind": np.array([m[1] for m in marks]),
        "episode_ms": np.array([m[2:] for m in marks], np.int32).reshape(-1, 2),
        "strange_run": np.array([s[0] for s in strange], np.uint8),
        "strange_ms": np.array([s[1] for s in strange], np.int32),
        "strange_s": np.array([s[2] for s in strange], np.float32),
    }


def main() -> None:
    """Record and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=int, default=6)
    arguments = parser.parse_args()
    recordings = []
    for run in range(arguments.runs):
        chance = random.Random(f"hosts/{run}")  # noqa: S311  a schedule, no secret
        kinds = ["burn-one", "burn-all", "disk", "net", "memory"]
        chance.shuffle(kinds)
        recordings.append(record(kinds, f"hosts/{run}", workers=run % 4))
        print(f"run {run + 1} of {arguments.runs}: {len(recordings[-1].events)} events", flush=True)
        np.savez_compressed(arguments.out, allow_pickle=False, **columns(recordings))


if __name__ == "__main__":
    main()
