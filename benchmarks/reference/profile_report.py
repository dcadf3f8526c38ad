"""A profile as JSON and as tables."""

from __future__ import annotations

from typing import Any

from profile_cost import cost_of
from profile_parts import in_order, part_of
from profile_stacks import cost_by, innermost, is_waiting, samples_by
from profile_stage import StageRun

Figures = dict[str, Any]


def figures(plain: StageRun, sampled: StageRun, *, top: int) -> Figures:
    """What one stage costs and on what.

    The times are those of the run without a profiler, the shares those of the run with one, of its
    samples that found a thread at work.

    Args:
        plain: A run without a profiler.
        sampled: A run of the same stage with one.
        top: How many functions.

    Raises:
        SystemExit: the sampled run has no samples.
    """
    stacks = [stack for stack in sampled.stacks if not is_waiting(stack)]
    if not stacks:
        raise SystemExit(f"stage {plain.stage!r} was through before it was sampled; more --events")
    us = plain.us_by_thread
    parts = cost_by(samples_by(stacks, part_of), us)
    functions = cost_by(samples_by(stacks, innermost), us)
    most = sorted(functions.items(), key=lambda found: -found[1])[:top]
    return {
        **cost_of(plain),
        "threads": {
            name: {"user": _us(cpu.user_s, plain), "system": _us(cpu.system_s, plain)}
            for name, cpu in plain.cpu.items()
        },
        "parts": {name: round(cost, 4) for name, cost in in_order(plain.stage, parts)},
        "functions": {name: round(cost, 4) for name, cost in most},
        "samples": sum(stack.samples for stack in stacks),
        "waiting": sum(stack.samples for stack in sampled.stacks if is_waiting(stack)),
        "unread": sampled.unread,
        "sampled_us_cpu_per_event": round(sampled.us_per_event, 2),
    }


def text(title: str, found: Figures) -> str:
    """One stage's tables."""
    whole = found["us_cpu_per_event"]
    threads = [
        (name, cpu["user"] + cpu["system"], f"user {cpu['user']:.2f}, system {cpu['system']:.2f}")
        for name, cpu in found["threads"].items()
    ]
    lines = [
        f"{title}: {found['events_per_s']:,} events/s, {whole:.2f} µs CPU per event "
        f"(user {found['us_user']:.2f}, system {found['us_system']:.2f}; {found['events']:,} "
        f"events; shares of {found['samples']:,} samples, {found['waiting']:,} more found a thread "
        f"waiting, {found['unread']:,} could not be read)",
        *_table("thread", whole, threads),
        *_table("part", whole, [(*row, "") for row in found["parts"].items()]),
        *_table("function, itself", whole, [(*row, "") for row in found["functions"].items()]),
    ]
    return "\n".join(lines) + "\n"


def _table(head: str, whole: float, rows: list[tuple[str, float, str]]) -> list[str]:
    lines = [f"\n  {'µs':>6} {'%':>6}  {head}"]
    for name, us, more in rows:
        share = 100 * us / whole if whole else 0.0
        lines.append(f"  {us:6.2f} {share:6.1f}  {name}{f' ({more})' if more else ''}")
    return lines


def _us(seconds: float, run: StageRun) -> float:
    """Seconds of a run as microseconds per event."""
    return round(seconds / run.events * 1e6, 2)
