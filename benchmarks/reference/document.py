"""``docs/benchmarks.md`` from the JSON report; nobody edits that page by hand."""

from __future__ import annotations

import math
from typing import Any

import lacking
from machine import contenders
from outcomes import failures, ran
from plots_series import DIMENSIONS, short
from quiet import disturbed
from sides import SIDES
from targets import (
    Verdict,
    latency_verdicts,
    memory_verdict,
    once_verdicts,
    ratio_said,
    ratio_verdict,
    start_verdict,
)

HEAD = """# Benchmarks

Written by `make bench` from its JSON report; change the benchmark, not this page.

The reference job: 200-byte JSON telemetry, 4 metrics, 1,000 devices, 4 partitions; decode,
validate, drop repeats, 8 features (4 raw, 4 EWMA), store updates, an ONNX MLP, one prediction out
per event with `acks=all`, progress committed behind the output. Every side reads the same log on
the same Apache Kafka and store, on the same machine, one side at a time, and must write the same
values (but for the id and the time of serving), or counts as failed. Every 997th event is in the
log twice, and every side must drop the second. The log is there before a side starts, so a rate is
that of catching up; the latency of live events was measured of Headrace and the hand-written
aiokafka loop, start and memory at rest of Headrace alone. All sides read JSON with the same library
and have an environment of their own. A batch of predictions is written by filling a template, by
Headrace and by every other side with batches; a side with one event at a time encodes a struct,
which is as fast for one. Headrace collects garbage by the clock, the others rarely, by a threshold.
The bus is one broker, so replication is 1; the store keeps an append-only file. Rates differ from
machine to machine; compare the ratios. A rate is taken from the first look at a side's first topic
that finds a fifth of the events in it (of Headrace that is ENRICH's, so that work done ahead
counts; of the others the predictions) to the first that finds 95 % of the predictions: no side's
start, joining of its group, or wait for a last batch counts. Each side's log is 4 to 10 s of its
own work, and every side commits its progress several times in it: where the framework commits by
the clock, its interval is set to a second or less (the table says its default). CPU counts from a
side's first record in any topic.
"""
STARTUP = """From the start of the process of `headrace demo` to the first prediction that its
reader received; it starts the bus and the store in that time, too. Files are in the page cache,
byte code is compiled.
"""
SHOWN_MS = ("p50_ms", "p99_ms", "p99_9_ms", "max_ms")
LATENCY = """From the moment an event was due at the sender to the moment a consumer in another
process had its prediction; of `headrace_once`, exactly-once, its committed one. The sender keeps
its rate whatever happens behind it and gathers events for 5 ms, Kafka's default; a queue that
builds up is in the figures, also one at the sender, whose longest is the column of its own. The
first 2 s do not count. An event that did not come took for ever (-). Cores are those the side kept
busy. The sides take turns, and of the rounds the one with the median p50 is shown, of an even
number the slower. Sender and receiver are librdkafka's, which leave more of the machine to the side
that is measured.
"""
TARGETS = """The budgets of the design, beside what was measured. A ratio is Headrace's throughput
over that of the side, of the medians and, in brackets, of the rounds furthest apart; where the
slowest round of one is no faster than the fastest of the other, the ranges overlap, and the order
of the two is not shown by this run. A side with fewer rounds than Headrace has no verdict. The same
budget is held against the side as one process and as two, as Headrace is three processes itself
(one of them only supervises). Beside it the CPU of an event, Headrace's first, which no number of
processes changes much. Where something else ran on the machine, no verdict is given (-).
"""
LACKING = """CPU of a side is that of its own processes alone; bus and store have a column of their
own. Headrace is three processes: a supervisor, and a worker of each stage.

### What each side does not guarantee

Of the sides as they are written here. Bytewax, Quix Streams and Faust have recoverable state; it is
not used, so its cost is not in their figures. All sides await `acks=all`, and none compresses. Only
Headrace sets late events apart.
"""
STAGES = """One stage alone at full speed, on a log that is already there, without a profiler; CPU
of its process, in user and kernel mode, and of each of its threads. `make profile` says where it
goes.
"""
SCALING = """The reference job with one value changed, one run each, on a log of its own that is
shorter than above. Rates are from the moment the last partition had its first prediction, which a
column says; where too few events were left by then they are of the whole run, and lower (marked).
More metrics also make an event longer. At 1,000,000 devices most events are the first of their
device. Memory is the most of all processes together. A sample of each point's scores equals plain
numpy's.
"""
AGAIN = """## Again

`make bench` measures all of it but the scaling, which is `make scale`; what was measured before
stays. `ARGS=--json` ends it with one JSON object: each side's figures, latency, start, memory and
versions. `make bench ARGS="--parts sides latency --sides headrace headrace_once"` compares the two
delivery modes alone. `make bench ARGS=--parts` measures nothing: it writes this page and its
figures anew. `make bench-gate` makes a short run and fails where a ratio of throughput, CPU or
latency to another side fell by more than 20 % below the one in
`benchmarks/reference/committed.json`, has none there, or is of a log of another length; on a quiet
machine `ARGS=--accept` commits those of the run.
"""
PLOTS = {
    "sides": ("throughput", "Events per second of every side on a logarithmic axis"),
    "latency": (
        "latency",
        "Latency percentiles in milliseconds over the rate, a line for each side",
    ),
    "scaling": (
        "scaling",
        "Events per second, CPU per event and memory, over each dimension of the job",
    ),
}
"""File of each part's figure in the page's folder, and what it shows; `plots.py` draws them."""


def write_document(report: dict[str, Any]) -> str:
    """The page."""
    parts = [HEAD, _machine(report), _older(report), _failures(report), _targets(report)]
    for part, section in SECTIONS.items():
        if part in report:
            parts.append(section(report))
    parts += [_versions(report["measured"]), AGAIN]
    return "\n".join(part for part in parts if part)


def table(head: list[str], rows: list[list[str]], *, words: bool = False) -> str:
    """A Markdown table; all columns but the first are to the right, unless they are words."""
    lines = [head, ["---", *["---" if words else "---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def shown(number: float | None, digits: int = 0) -> str:
    """A number of a table; what was not measured, or did not come, is a dash.

    >>> shown(1234.5, 1), shown(None), shown(float("inf"))
    ('1,234.5', '-', '-')
    """
    return "-" if number is None or math.isinf(number) else f"{number:,.{digits}f}"


def _machine(report: dict[str, Any]) -> str:
    found = report["machine"]
    return (
        f"Measured on {found['cores']} cores ({found['processor']}), {found['memory_gb']} GB, "
        f"{found['system']}; bus, store, sides and observer share them.{_caution(report)}\n\n"
        f"{_moments(report)}"
    )


def _caution(report: dict[str, Any]) -> str:
    parts = disturbed(report["measured"], SECTIONS)
    if not parts:
        return ""
    return f" **It was not quiet before {', '.join(parts)}: do not quote these figures.**"


def _older(report: dict[str, Any]) -> str:
    """Says so where the other sides' code is no longer that which was measured."""
    found = report["measured"].get("sides", {}).get("contenders")
    if found is None or found == contenders():
        return ""
    return (
        "**The other sides' code was changed after their throughput was measured (its digest is "
        f"{contenders()} now); what is said here of how sides are written and timed is of now, and "
        "`make bench` measures them anew.**\n"
    )


def _moments(report: dict[str, Any]) -> str:
    """When and of what each part was measured."""
    rows = [
        [part, m["at"], f"{m['load_before']:.1f}", shown(m.get("busy_cores_before"), 2),
         shown(m.get("minutes"), 1), m.get("commit", "-"), m.get("contenders", "-"),
         "another" if m.get("machine", report["machine"]) != report["machine"] else "this"]
        for part, m in report["measured"].items()
    ]  # fmt: skip
    head = ["part", "at", "load before", "busy cores before", "minutes", "commit",
            "digest of the other sides' code", "machine"]  # fmt: skip
    return table(head, rows)


def _said(report: dict[str, Any], verdict: Verdict | None, *parts: str) -> str:
    """The verdict of a figure of these parts; a dash where there is none, or one was disturbed."""
    if verdict is None or disturbed(report["measured"], parts):
        return "-"
    return verdict.said()


def _plot(part: str) -> str:
    """The figure of a part, with its words for who cannot see it."""
    name, shown = PLOTS[part]
    return f"![{shown}; the numbers are in the table](benchmarks/{name}.svg)\n"


def _failures(report: dict[str, Any]) -> str:
    """What has no figure on this page although it was tried."""
    lines = "".join(f"- {line}\n" for line in failures(report))
    return f"**Failed, and no figure here stands for it:**\n\n{lines}" if lines else ""


def _targets(report: dict[str, Any]) -> str:
    """Every budget that this report can judge."""
    sides, latency = ran(report.get("sides", {})), report.get("latency", {})
    load = sides.get("headrace", {}).get("processes_mb", {})
    rows = [
        _target(report, verdict, "sides", cpu=_cpu(sides, name), said=ratio_said(sides, name))
        for name in sides
        if (verdict := ratio_verdict(sides, name)) is not None
    ]
    rows += [_target(report, v, "sides", "latency") for v in once_verdicts(sides, latency)]
    rows += [_target(report, v, "latency") for v in latency_verdicts(latency).values()]
    rows += [
        _target(report, start_verdict(bus, found["first_prediction_s"]), "startup")
        for bus, found in report.get("startup", {}).items()
    ]
    rows += [
        _target(report, memory_verdict(process, load.get(process)), "sides")
        for process in report.get("memory", {})
    ]
    head = ["budget", "found", "target", "µs CPU per event"]
    found = [row for row in rows if row]
    return f"## Targets\n\n{TARGETS}\n{table(head, found)}" if found else ""


def _target(
    report: dict[str, Any], verdict: Verdict | None, *parts: str, cpu: str = "-", said: str = ""
) -> list[str]:
    """The row of a budget; none where there is no verdict."""
    if verdict is None:
        return []
    return [verdict.what, said or shown(verdict.found, 1), _said(report, verdict, *parts), cpu]


def _cpu(sides: dict[str, Any], name: str) -> str:
    """CPU of an event, Headrace's beside a side's."""
    us = [sides.get(side, {}).get("us_cpu_per_event") for side in ("headrace", name)]
    return " : ".join(shown(each, 1) for each in us)


def _sides(report: dict[str, Any]) -> str:
    sides = report["sides"]
    fastest = sorted(sides.items(), key=lambda item: -item[1].get("events_per_s", 0.0))
    rows = [_side(report, name, side) for name, side in fastest]
    head = ["side", "processes", "events/s", "lowest to highest", "Headrace is × faster",
            "target", "commits after", "store written after", "µs CPU per event", "cores used",
            "CPU of bus and store, µs per event",
            "memory, MB", "measured, s", "events", "rounds"]  # fmt: skip
    given = lacking.rows((name, side["title"]) for name, side in fastest)
    lost = table([*lacking.HEAD], given, words=True)
    unseen = ", ".join(name for name in SIDES if name not in sides)
    drawn = f"{_plot('sides')}\n{table(head, rows)}"
    drawn += f"\nNot measured: {unseen}.\n" if unseen else ""
    return f"## Throughput\n\n{drawn}\n{LACKING}\n{lost}"


def _side(report: dict[str, Any], name: str, side: dict[str, Any]) -> list[str]:
    """The row of a side; of one that has no figures it says that it failed."""
    sides = report["sides"]
    about = [side["title"], str(side["processes"])]
    if name not in ran(sides):
        return [*about, "failed", *["-"] * 11, f"{side['events']:,}", _rounds(side)]
    return [
        *about,
        f"{side['events_per_s']:,.0f}",
        f"{min(side['rounds']):,} to {max(side['rounds']):,}",
        ratio_said(sides, name) if "headrace" in ran(sides) and name != "headrace" else "-",
        _said(report, ratio_verdict(sides, name), "sides"),
        side.get("commits", "-"),
        side.get("stores", "-"),
        f"{side['us_cpu_per_event']:.1f}",
        f"{side['us_cpu_per_event'] * side['events_per_s'] / 1e6:.2f}",
        shown(side.get("us_cpu_of_services"), 1),
        f"{side['rss_mb']:.0f}",
        shown(side.get("window_s"), 1),
        f"{side['events']:,}",
        _rounds(side),
    ]


def _rounds(side: dict[str, Any]) -> str:
    """How many rounds its figures are of, and of how many that were run."""
    good, bad = len(side.get("rounds", [])), len(side.get("failed", []))
    return f"{good} of {good + bad}" if bad else str(good)


def _latency(report: dict[str, Any]) -> str:
    latency = report["latency"]
    rows = [
        [where, f"{int(rate):,}", *[shown(found.get(name)) for name in SHOWN_MS],
         f"{shown(found.get('lowest_p50_ms', found['p50_ms']))} to "
         f"{shown(found.get('highest_p50_ms', found['p50_ms']))}",
         f"{found['most_behind_ms']:,.0f}", f"{found['missing']:,}", f"{found['cores']:.2f}",
         shown(found.get("rounds"))]
        for where, rates in latency.items()
        for rate, found in rates.items()
    ]  # fmt: skip
    head = ["side", "events/s", "p50 ms", "p99 ms", "p99.9 ms", "most ms", "p50 of the rounds",
            "sender behind, ms", "missing", "cores", "rounds"]  # fmt: skip
    return f"## Latency\n\n{LATENCY}\n{_plot('latency')}\n{table(head, rows)}"


def _startup(report: dict[str, Any]) -> str:
    rows = [
        [bus, f"{found['first_prediction_s']:.2f}",
         f"{min(found['runs']):.2f} to {max(found['runs']):.2f}", str(len(found["runs"])),
         _said(report, start_verdict(bus, found["first_prediction_s"]), "startup")]
        for bus, found in report["startup"].items()
    ]  # fmt: skip
    head = ["bus", "median s", "lowest to highest", "runs", "target"]
    return f"## Start\n\n{STARTUP}\n{table(head, rows)}"


def _memory(report: dict[str, Any]) -> str:
    load = report.get("sides", {}).get("headrace", {}).get("processes_mb", {})
    rows = []
    for process, mb in report["memory"].items():
        verdict = memory_verdict(process, load.get(process))
        most = f"{load[process]:.0f}" if process in load else "-"
        rows.append([process, f"{mb:.0f}", most, _said(report, verdict, "sides")])
    head = ["process of Headrace", "at rest, MB", "most at full load, MB", "target"]
    return f"## Memory\n\nResident, of each process, in one run at rest.\n\n{table(head, rows)}"


def _stages(report: dict[str, Any]) -> str:
    rows = []
    for stage, found in report["stages"].items():
        whole = {"us_cpu_per_event", "us_user", "us_system"}
        threads = {key: us for key, us in found.items() if key.startswith("us_")}
        each = [f"{key[3:]} {us:.2f}" for key, us in threads.items() if key not in whole]
        split = [f"{found[key]:.2f}" for key in ("us_user", "us_system")]
        rows.append(
            [stage, f"{found['events_per_s']:,.0f}", f"{found['us_cpu_per_event']:.2f}", *split,
             ", ".join(each), shown(found.get("rounds"))]
        )  # fmt: skip
    head = [
        "stage",
        "events/s",
        "µs CPU per event",
        "user",
        "system",
        "µs of each thread",
        "rounds",
    ]
    return f"## Stages\n\n{STAGES}\n{table(head, rows)}"


def _scaling(report: dict[str, Any]) -> str:
    rows = [
        [name, short(point["value"]),
         f"{point['events_per_s']:,.0f}{'' if point['steady'] else ' (whole run)'}",
         f"{point['us_cpu_per_event']:.1f}", f"{point['rss_mb']:.0f}",
         f"{point['every_partition_s']:.1f}", f"{point['events']:,}"]
        for dimension, name in DIMENSIONS.items()
        for point in report["scaling"].get(dimension, [])
    ]  # fmt: skip
    head = ["dimension", "value", "events/s", "µs CPU per event", "memory, MB",
            "until the last partition began, s", "events"]  # fmt: skip
    return f"## Scaling\n\n{SCALING}\n{_plot('scaling')}\n{table(head, rows)}"


def _versions(measured: dict[str, Any]) -> str:
    """Versions in each environment, with the parts that were measured with them."""
    parts: dict[str, list[str]] = {}
    for part, about in measured.items():
        for env, found in about.get("versions", {}).items():
            line = f"{env}: {', '.join(f'{name} {number}' for name, number in found.items())}"
            parts.setdefault(line, []).append(part)
    lines = "".join(f"- {line} ({', '.join(of)})\n" for line, of in parts.items())
    about = "Of each environment, and in which parts it ran with them."
    return f"## Versions\n\n{about}\n\n{lines}"


SECTIONS = {
    "sides": _sides,
    "stages": _stages,
    "latency": _latency,
    "startup": _startup,
    "memory": _memory,
    "scaling": _scaling,
}
"""What the page says of each part of the report, in its order."""
