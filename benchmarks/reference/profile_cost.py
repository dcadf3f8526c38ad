"""What each stage costs alone at full speed: events per second and CPU per event."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path

from profile_stage import StageRun, make_topics, run_stage
from profile_threads import Cpu
from sides import Where
from telemetry_log import delete, fill

from headrace.schemas.topics import topics_of
from headrace.streams.workers.jobs import STAGES

Runs = dict[str, list[StageRun]]


async def stage_cost(
    bus: str, store: str, *, events: int, rounds: int = 1
) -> dict[str, dict[str, float]]:
    """Run each stage alone at full speed, without a profiler.

    Args:
        bus: host:port.
        store: URL.
        events: Length of the log.
        rounds: Runs of each stage; the figures are those of its median run by CPU.

    Returns:
        Stage to ``rounds``, ``events``, ``events_per_s``, ``us_cpu_per_event``, of which
        ``us_user`` and ``us_system``, and, of the same, ``us_main``, ``us_bus`` and so on for each
        thread.
    """
    telemetry = unique("profile-telemetry")
    await fill(bus, telemetry, events)
    runs: Runs = {stage: [] for stage in STAGES}
    for number in range(rounds):
        for stage, run in (
            await run_stages(bus, store, telemetry, f"cost-{number}", events)
        ).items():
            runs[stage].append(run)
    await delete(bus, telemetry)
    return {
        stage: cost_of(median_run(found)) | {"rounds": len(found)} for stage, found in runs.items()
    }


async def run_stages(
    bus: str,
    store: str,
    telemetry: str,
    name: str,
    count: int,
    *,
    stages: Sequence[str] = STAGES,
    samples: Path | None = None,
    hz: int = 0,
) -> dict[str, StageRun]:
    """The stages one after the other on one log; the next reads what the one before it wrote.

    Args:
        bus: host:port.
        store: URL.
        telemetry: Topic with the log.
        name: Of this run, for groups and topics.
        count: Length of the log, events.
        stages: Which are sampled and returned; what these read is made all the same.
        samples: Folder for the collapsed stacks; None runs the stages without a profiler.
        hz: Samples per second.
    """
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        where = Where(bus, store, telemetry, unique(name), Path(folder))
        pipeline = await make_topics(where)
        for stage in STAGES[: 1 + max(map(STAGES.index, stages))]:
            wanted = stage in stages
            out = samples / f"profile-{stage}.collapsed" if samples and wanted else None
            run = await run_stage(stage, where, count, samples=out, hz=hz)
            if wanted:
                found[stage] = run
        await delete(bus, *(t.name for t in topics_of(pipeline).all() if t.ours))
    return found


def unique(name: str) -> str:
    """A name that no run had before: a store and groups remember."""
    return f"{name}-{secrets.token_hex(4)}"


def median_run(runs: Sequence[StageRun]) -> StageRun:
    """The run in the middle by CPU per event; of two, the lower."""
    return sorted(runs, key=lambda run: run.us_per_event)[(len(runs) - 1) // 2]


def cost_of(run: StageRun) -> dict[str, float]:
    """A run as the figures of `stage_cost`.

    Example:
        >>> run = StageRun("serve", 1_000_000, 2.0, {"main": Cpu(1.0, 0.5), "bus": Cpu(0.25, 0.0)})
        >>> list(cost_of(run).values())
        [1000000, 500000, 1.75, 1.25, 0.5, 1.5, 0.25]
    """
    per_event = 1e6 / run.events
    whole = sum(run.cpu.values(), Cpu())
    figures = {
        "us_cpu_per_event": whole.total_s * per_event,
        "us_user": whole.user_s * per_event,
        "us_system": whole.system_s * per_event,
        **{f"us_{thread}": us for thread, us in run.us_by_thread.items()},
    }
    return {"events": run.events, "events_per_s": round(run.events_per_s)} | {
        name: round(us, 2) for name, us in figures.items()
    }
