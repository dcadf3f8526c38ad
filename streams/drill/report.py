"""What a drill says in the end: one object of numbers, and lines for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.streams.drill.campaign import Outcome
from headrace.streams.drill.memory import longest
from headrace.streams.drill.strikes import Struck
from headrace.streams.drill.verdict import account


def report(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The drill's facts, ready for JSON: of the run, and of each log that began again after it."""
    first = outcomes[0]
    accounts = [account(outcome.load, outcome.found) for outcome in outcomes]
    faults = [_fault(struck) for outcome in outcomes for struck in outcome.struck]
    return {
        "seed": first.plan.seed,
        "events": sum(len(outcome.load.rows) for outcome in outcomes),
        "account": {what: sum(each[what] for each in accounts) for what in accounts[0]},
        "kills": first.plan.kills().total(),
        "lost": sum(outcome.tally.lost for outcome in outcomes),
        "doubled": sum(outcome.doubled for outcome in outcomes),
        "differing": sum(outcome.tally.differing for outcome in outcomes),
        "out_of_order": sum(outcome.tally.out_of_order for outcome in outcomes),
        "repeated": sum(outcome.tally.repeated for outcome in outcomes),
        "crashes": sum(outcome.crashes.total() for outcome in outcomes),
        "slowest_recovery_s": max((f["recovered_s"] or 0.0 for f in faults), default=0.0),
        "memory": [life.facts() for life in longest(first.memories)],
        "faults": faults,
        "breaches": [breach for outcome in outcomes for breach in outcome.breaches],
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
    whom = f" of {', '.join(fault.victims)}" if fault.victims else ""
    text = f"{fault.kind}{whom}, {fault.down_s:.1f} s"
    if not fault.points:
        return text
    return f"{text}, then at {' and '.join(fault.points)}" + (
        "" if struck.reached else " (not reached: killed)"
    )


def verdict(facts: dict[str, Any]) -> str:
    """The last line for people."""
    return (
        f"{facts['events']} events, {len(facts['faults'])} faults, {facts['kills']} kills: "
        f"{facts['lost']} lost, {facts['doubled']} doubled behind the consumer, "
        f"{facts['differing']} differing, {facts['out_of_order']} out of order; "
        f"caught up at most {facts['slowest_recovery_s']:.1f} s after a repair; "
        f"{facts['seconds']} s"
    )
