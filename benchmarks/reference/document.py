"""``docs/benchmarks.md`` from the JSON report; nobody edits that page by hand."""

from __future__ import annotations

from typing import Any

HEAD = """# Benchmarks

Written by `make bench` from its JSON report; change the benchmark, not this page.

The reference job: 200-byte JSON telemetry, 4 metrics, 1,000 devices, 4 partitions; decode,
validate, drop repeats, 8 features (4 raw, 4 EWMA), store updates, an ONNX MLP, one prediction out
per event with `acks=all`, progress committed behind the output. Every side reads the same log on
the same Apache Kafka and store, on the same machine, one side at a time, and must write the same
fields and the same scores, or the run fails. Rates differ from machine to machine; compare the
ratios. No side's start or joining of its group counts.
"""
STARTUP = """`headrace demo` from the start of its process to its first prediction; it starts
the bus and the store in that time, too. Files are in the page cache, byte code is compiled.
"""
SHOWN_MS = ("p50_ms", "p99_ms", "p99_9_ms", "max_ms")
LATENCY = """From the moment an event was due at the sender to the moment a consumer in another
process had its prediction. The sender keeps its rate whatever happens behind it and gathers events
for 5 ms, Kafka's default; a queue that builds up is in the figures, also one at the sender, whose
longest is the column of its own. The first 2 s do not count. Cores are those the side kept busy.
"""


def write_document(report: dict[str, Any]) -> str:
    """The page."""
    parts = [HEAD, _machine(report)]
    if "sides" in report:
        parts.append(_sides(report["sides"]))
    if "latency" in report:
        parts.append(_latency(report["latency"]))
    if "startup" in report:
        parts.append(_startup(report["startup"]))
    if "memory" in report:
        parts.append(_memory(report["memory"], report.get("sides", {})))
    parts.append(_versions(report["versions"]))
    return "\n".join(parts)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; all columns but the first are to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _machine(report: dict[str, Any]) -> str:
    found = report["machine"]
    return (
        f"Measured on {found['cores']} cores ({found['processor']}), {found['memory_gb']} GB, "
        f"{found['system']}; bus, store, sides and observer share them. One-minute load before "
        f"each part: {_moments(report['measured'])}.\n"
    )


def _moments(measured: dict[str, Any]) -> str:
    return ", ".join(f"{part} {m['load_before']:.1f} ({m['at']})" for part, m in measured.items())


def _sides(sides: dict[str, Any]) -> str:
    base = sides.get("headrace", {}).get("events_per_s")
    rows = []
    for side in sorted(sides.values(), key=lambda s: -s["events_per_s"]):
        ratio = f"{base / side['events_per_s']:.1f}" if base else "-"
        rows.append(
            [
                side["title"],
                str(side["processes"]),
                f"{side['events_per_s']:,.0f}",
                f"{min(side['rounds']):,} to {max(side['rounds']):,}",
                ratio,
                f"{side['us_cpu_per_event']:.1f}",
                f"{side['rss_mb']:.0f}",
                f"{side['events']:,}",
            ]
        )
    head = ["side", "processes", "events/s", "lowest to highest", "Headrace is × faster",
            "µs CPU per event", "memory, MB", "events"]  # fmt: skip
    lost_by = {side["title"]: side["not_given"] for side in sides.values()}
    lost = "".join(f"- **{title}**: {lost}.\n" for title, lost in lost_by.items())
    return f"## Throughput\n\n{table(head, rows)}\nWhat each side does not give:\n\n{lost}"


def _latency(latency: dict[str, Any]) -> str:
    rows = [
        [where, f"{int(rate):,}", *[f"{found.get(name, float('nan')):,.0f}" for name in SHOWN_MS],
         f"{found['most_behind_ms']:,.0f}", f"{found['missing']:,}", f"{found['cores']:.2f}"]
        for where, rates in latency.items()
        for rate, found in rates.items()
    ]  # fmt: skip
    head = ["side", "events/s", "p50 ms", "p99 ms", "p99.9 ms", "most ms", "sender behind, ms",
            "missing", "cores"]  # fmt: skip
    return f"## Latency\n\n{LATENCY}\n{table(head, rows)}"


def _startup(startup: dict[str, Any]) -> str:
    rows = [
        [bus, f"{found['first_prediction_s']:.2f}",
         f"{min(found['runs']):.2f} to {max(found['runs']):.2f}", str(len(found["runs"]))]
        for bus, found in startup.items()
    ]  # fmt: skip
    head = ["bus", "median s", "lowest to highest", "runs"]
    return f"## Start\n\n{STARTUP}\n{table(head, rows)}"


def _memory(rest: dict[str, float], sides: dict[str, Any]) -> str:
    load = sides.get("headrace", {}).get("processes_mb", {})
    rows = [
        [process, f"{mb:.0f}", f"{load[process]:.0f}" if process in load else "-"]
        for process, mb in rest.items()
    ]
    head = ["process of Headrace", "at rest, MB", "most at full load, MB"]
    return f"## Memory\n\nResident, of each process.\n\n{table(head, rows)}"


def _versions(versions: dict[str, dict[str, str]]) -> str:
    lines = [
        f"- {env}: {', '.join(f'{name} {number}' for name, number in found.items())}\n"
        for env, found in versions.items()
    ]
    return f"## Versions\n\nOf each environment.\n\n{''.join(lines)}"
