"""What a drill says in the end: one object of numbers, and lines for people."""

from __future__ import annotations

from typing import Any

from headrace.streams.drill.campaign import Outcome
from headrace.streams.drill.strikes import Struck


def report(outcome: Outcome) -> dict[str, Any]:
    """The drill's facts, ready for JSON."""
    tally, load = outcome.tally, outcome.load
    return {
        "seed": outcome.plan.seed,
        "events": len(load.rows),
        "predictions": len(outcome.found.predictions.first),
        "kills": outcome.plan.kills().total(),
        "lost": tally.lost,
        "doubled": outcome.doubled,
        "differing": tally.differing,
        "out_of_order": tally.out_of_order,
        "repeated": tally.repeated,
        "crashes": outcome.crashes.total(),
        "faults": [_fault(struck) for struck in outcome.struck],
        "breaches": outcome.breaches,
    }


def _fault(struck: Struck) -> dict[str, Any]:
    fault, recovered_s = struck.fault, struck.recovered_s
    return {
        "kind": fault.kind,
        "victims": list(fault.victims),
        "points": list(fault.points),
        "reached": struck.reached,
        "when": fault.when,
        "down_s": round(fault.down_s, 3),
        "recovered_s": None if recovered_s is None else round(recovered_s, 2),
    }


def line(struck: Struck) -> str:
    """One fault that was carried out."""
    fault = struck.fault
    whom = ", ".join(fault.victims) or "the service"
    text = f"{fault.kind} of {whom}, {fault.down_s:.1f} s"
    if not fault.points:
        return text
    return f"{text}, then at {' and '.join(fault.points)}" + (
        "" if struck.reached else " (not reached: killed)"
    )


def verdict(facts: dict[str, Any]) -> str:
    """The last line for people."""
    back = [fault["recovered_s"] for fault in facts["faults"] if fault["recovered_s"] is not None]
    return (
        f"{facts['events']} events, {len(facts['faults'])} faults, {facts['kills']} kills: "
        f"{facts['lost']} lost, {facts['doubled']} doubled behind the consumer, "
        f"{facts['differing']} differing, {facts['out_of_order']} out of order; "
        f"caught up at most {max(back, default=0.0):.1f} s after a repair; {facts['seconds']} s"
    )
