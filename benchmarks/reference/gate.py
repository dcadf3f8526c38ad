"""Has Headrace fallen behind the other sides? ``python benchmarks/reference/gate.py REPORT``.

Only ratios are compared, of sides that ran one after the other on one machine: a slower machine
slows both. A ratio that is more than `MOST_LOST` below the committed one ends the command with 1,
and so does one that only the report or only the committed file has, and a log of another length.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from outcomes import ran
from quiet import disturbed

COMMITTED = Path(__file__).with_name("committed.json")
MOST_LOST = 0.20
OURS = "headrace"
ON_KAFKA = {OURS: "headrace on kafka", "handwritten": "handwritten on kafka"}
PERCENTILES = {"p50_ms": "p50", "p99_ms": "p99"}
"""p99.9 and the maximum of a short run are single hiccups."""
PARTS = ("sides", "latency")


def main() -> int:
    """Compare or, with --accept, commit."""
    args = arguments()
    report = load(args.report)
    if args.accept:
        args.committed.write_text(json.dumps(accepted(report), indent=2) + "\n", "utf-8")
        print(f"wrote {len(ratios(report))} ratios to {args.committed}")
        return 0
    committed = load(args.committed)
    for caution in cautions(report, committed):
        print(f"caution: {caution}", file=sys.stderr)
    found = ratios(report)
    lost = fallen(found, committed["ratios"])
    unlike = [*unknown(found, committed["ratios"]), *other_lengths(report, committed)]
    for line in [*lost, *unlike]:
        print(line)
    kept = len(committed["ratios"]) - len(lost)
    print(f"{kept} of {len(committed['ratios'])} ratios kept")
    return 1 if lost or unlike else 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks/reference/gate.py", description=__doc__)
    parser.add_argument("report", type=Path, help="JSON report of a fresh run")
    parser.add_argument("committed", type=Path, nargs="?", default=COMMITTED)
    parser.add_argument("--accept", action="store_true", help="write COMMITTED from the report")
    return parser.parse_args()


def load(file: Path) -> dict[str, Any]:
    """A JSON object of a file.

    Raises:
        SystemExit: there is none.
    """
    try:
        found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"{file}: {error}; make one with `make bench-gate`") from None
    return found


def ratios(report: dict[str, Any]) -> dict[str, float]:
    """Every ratio of a report; more is better for Headrace in each of them.

    Example:
        >>> a = {"events_per_s": 300.0, "us_cpu_per_event": 5.0}
        >>> b = {"events_per_s": 100.0, "us_cpu_per_event": 10.0}
        >>> ratios({"sides": {"headrace": a, "bytewax": b}})
        {'events/s, headrace : bytewax': 3.0, 'CPU per event, bytewax : headrace': 2.0}
    """
    sides = ran(report.get("sides", {}))
    found = {}
    for name in [name for name in sides if not name.startswith(OURS) and OURS in sides]:
        ours, other = sides[OURS], sides[name]
        found[f"events/s, {OURS} : {name}"] = ours["events_per_s"] / other["events_per_s"]
        cpu = other["us_cpu_per_event"] / ours["us_cpu_per_event"]
        found[f"CPU per event, {name} : {OURS}"] = cpu
    latency = report.get("latency", {})
    ours, hand = (latency.get(ON_KAFKA[name], {}) for name in (OURS, "handwritten"))
    for rate in [rate for rate in ours if rate in hand]:
        for key, name in PERCENTILES.items():
            if ours[rate].get(key) is not None and hand[rate].get(key) is not None:
                what = f"{name} at {rate} events/s, handwritten : {OURS}"
                found[what] = hand[rate][key] / ours[rate][key]
    return {name: round(ratio, 3) for name, ratio in found.items()}


def fallen(found: dict[str, float], committed: dict[str, float]) -> list[str]:
    """A line for each committed ratio that is lost, or too far below.

    Example:
        >>> fallen({"a : b": 2.0}, {"a : b": 3.0, "a : c": 5.0})  # doctest: +NORMALIZE_WHITESPACE
        ['a : b is 2, committed 3: 33 % less, expected at most 20 %; mend it, or accept the report',
         'a : c is not in the report, committed 5; run that side and rate, or accept the report']
    """
    lines = []
    for name, was in committed.items():
        now = found.get(name)
        if now is None:
            lines.append(
                f"{name} is not in the report, committed {was:g}; "
                "run that side and rate, or accept the report"
            )
        elif now < was * (1 - MOST_LOST):
            lines.append(
                f"{name} is {now:g}, committed {was:g}: {100 * (1 - now / was):.0f} % less, "
                f"expected at most {100 * MOST_LOST:.0f} %; mend it, or accept the report"
            )
    return lines


def unknown(found: dict[str, float], committed: dict[str, float]) -> list[str]:
    """A line for each ratio that was measured and has nothing to be held against.

    Example:
        >>> unknown({"a : b": 2.0}, {})
        ['a : b is 2, and has no committed ratio; accept the report']
    """
    return [
        f"{name} is {now:g}, and has no committed ratio; accept the report"
        for name, now in found.items()
        if name not in committed
    ]


def other_lengths(report: dict[str, Any], committed: dict[str, Any]) -> list[str]:
    """A line for each side that read a log of another length than when its ratio was committed."""
    theirs = committed.get("events", {})
    return [
        f"{name} read {count:,} events, in the committed run {theirs[name]:,}; "
        "run it with logs as long, or accept the report"
        for name, count in events_of(report).items()
        if theirs.get(name, count) != count
    ]


def accepted(report: dict[str, Any]) -> dict[str, Any]:
    """What is committed of a report.

    Raises:
        SystemExit: it has no ratio.
    """
    found = ratios(report)
    if not found:
        raise SystemExit("the report has no ratio, expected headrace and another side in it")
    return {
        "machine": report["machine"],
        "measured": {part: report["measured"][part] for part in PARTS if part in report},
        "events": events_of(report),
        "ratios": found,
    }


def events_of(report: dict[str, Any]) -> dict[str, int]:
    """Length of the log that each side read."""
    return {name: side["events"] for name, side in ran(report.get("sides", {})).items()}


def cautions(report: dict[str, Any], committed: dict[str, Any]) -> list[str]:
    """Why a comparison may be unfair."""
    found = []
    for whose, measured in (("this run", report), ("the committed run", committed)):
        if parts := disturbed(measured.get("measured", {}), PARTS):
            found.append(f"the machine was busy before {', '.join(parts)} of {whose}; repeat it")
    if report["machine"] != committed["machine"]:
        found.append("the committed ratios are of another machine; accept a quiet run of this one")
    return found


if __name__ == "__main__":
    sys.exit(main())
