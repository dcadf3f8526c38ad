"""What `headrace top` draws: the read model of `/observe` as tables."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

WHOLE_WAY = "device_to_prediction"
DRIFTED = 5
"""Indicators shown: the largest."""


def draw(facts: dict[str, Any], place: str) -> RenderableType:
    """Every pipeline, one panel each.

    Args:
        facts: The JSON of `/observe`.
        place: Where it came from.
    """
    panels = [_pipeline(one) for one in facts["pipelines"]]
    return Group(*panels, Text(f"{place}  Ctrl-C ends it", style="dim"))


def _pipeline(one: dict[str, Any]) -> Panel:
    parts: list[RenderableType] = [_stages(one["stages"]), _latencies(one["latencies"])]
    if one["budgets"]:
        parts.append(_budgets(one["budgets"]))
    if one["drift"]:
        parts.append(_drift(one["drift"]))
    if one["cost"] is not None:
        parts.append(_cost(one["cost"]))
    if one["canary"] is not None:
        parts.append(_canary(one["canary"]))
    going = [incident for incident in one["incidents"] if incident["end_ms"] is None]
    lines = [f"{i['severity']}: {i['which']}.{i['objective']}, {i['cause']}" for i in going]
    parts += [Text(line, style="bold red") for line in lines]
    parts += [Text(reason, style="yellow") for reason in one["reasons"]]
    state = "ready" if one["ready"] else "not ready"
    return Panel(Group(*parts), title=f"{one['pipeline']}: {state}")


def _stages(stages: list[dict[str, Any]]) -> Table:
    table = _table("stage", "workers", "in/s", "out/s", "dead", "late", "lag", "cores", "MB")
    for stage in stages:
        events, rates = stage["events"], stage["per_s"]
        table.add_row(
            stage["stage"],
            f"{stage['running']}/{stage['workers']}",
            f"{rates.get('in', 0):,.0f}",
            f"{rates.get('out', 0):,.0f}",
            f"{events.get('dead', 0):,}",
            f"{events.get('late', 0):,}",
            f"{stage['lag']:,}",
            *_process(stage),
            style="" if stage["running"] == stage["workers"] else "red",
        )
    return table


def _process(stage: dict[str, Any]) -> tuple[str, str]:
    """Cores and memory; of a stage in another's process, where that is."""
    if stage["inside"] is not None:
        return "in", stage["inside"]
    return f"{stage['cores']:.2f}", f"{stage['rss_mb']:.0f}"


def _latencies(rows: list[dict[str, Any]]) -> Table:
    table = _table("latency, last minute", "class", "events", "p50 ms", "p95", "p99", "p99.9")
    of_hop = Counter(row["hop"] for row in rows)
    for row in rows:
        # Classes one by one for the whole way only: a terminal has few lines.
        if row["device_class"] != "all" and row["hop"] != WHOLE_WAY and of_hop[row["hop"]] > 1:
            continue
        shares = (row[name] for name in ("p50_ms", "p95_ms", "p99_ms", "p999_ms"))
        shown = ("" if value is None else f"{value:,.1f}" for value in shares)
        table.add_row(row["hop"], row["device_class"], f"{row['count']:,}", *shown)
    return table


def _budgets(rows: list[dict[str, Any]]) -> Table:
    table = _table("objective", "good", "bad", "budget left", "burn", "alert")
    for row in rows:
        table.add_row(
            f"{row['which']}.{row['name']}",
            f"{row['good']:,}",
            f"{row['bad']:,}",
            f"{row['left']:.1%}",
            f"{row['burn']:.2f}",
            row["alert"] or "",
            style="red" if row["alert"] or row["left"] <= 0 else "",
        )
    return table


def _drift(rows: list[dict[str, Any]]) -> Table:
    table = _table("drift", "class", "index", "distance", "by chance")
    largest = sorted(rows, key=lambda row: (-row["alarm"], -row["value"]))[:DRIFTED]
    for row in largest:
        table.add_row(
            row["quantity"],
            row["device_class"],
            f"{row['value']:.3f}",
            f"{row['distance']:.3f}",
            f"{row['limit']:.3f}",
            style="red" if row["alarm"] else "",
        )
    return table


def _cost(facts: dict[str, Any]) -> Text:
    """One line of what 1000 predictions cost, here and in a cloud."""
    money, total = facts["per_1000"], facts["total"]
    if money is None:
        return Text("cost  nothing is predicted", style="dim")
    joules = "" if facts["joules"] is None else f", {facts['joules']:,.2f} J ({facts['energy']})"
    here = money["cpu"] + money["egress"]
    return Text(
        f"1000 predictions  {here:.2g} {facts['currency']} here{joules}, {money['cloud']:.2g} in a "
        f"cloud; the cache saved {total['saved']:.2g} since the start"
    )


def _canary(facts: dict[str, Any]) -> Text:
    """One line of what became of probes."""
    counts = "  ".join(f"{name} {count:,}" for name, count in facts["probes"].items())
    took = "" if facts["took_ms"] is None else f", answered in {facts['took_ms']:,.0f} ms"
    return Text(f"probes  {counts}{took}", style="red" if facts["failing"] else "")


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="left" if name in ("class", "alert") else "right")
    return table
