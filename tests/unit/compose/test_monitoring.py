"""Alerts and dashboards ask for what the metric catalogue has, and for all of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from headrace.schemas.metrics import CATALOGUE
from headrace.streams.monitoring.__main__ import contents, main, stale, write
from headrace.streams.monitoring.alerts import GROUPS, JOB

COMPOSE = Path(__file__).parents[3] / "compose"
RULES = [
    rule
    for group in yaml.safe_load((COMPOSE / "prometheus/alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
BOARDS = sorted((COMPOSE / "grafana/dashboards").glob("*.json"))
PROMETHEUS_OWN = {"up": {"job", "instance"}}


def asked(expr: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric of a query, with the labels that it is asked by."""
    tree = promql_parser.parse(expr.replace("$__rate_interval", "5m"))
    yield from _asked(tree, set())


def _asked(node: Any, grouped: set[str]) -> Iterator[tuple[str, set[str]]]:
    """`grouped`: the labels that the aggregations around it keep."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node.name, {m.name for m in node.matchers.matchers} | grouped
    elif isinstance(node, promql_parser.MatrixSelector | promql_parser.SubqueryExpr):
        yield from _asked(getattr(node, "vector_selector", None) or node.expr, grouped)
    elif isinstance(node, promql_parser.AggregateExpr):
        kept = set(node.modifier.labels) if node.modifier else set()
        yield from _asked(node.expr, grouped | kept)
    elif isinstance(node, promql_parser.BinaryExpr):
        yield from _asked(node.lhs, grouped)
        yield from _asked(node.rhs, grouped)
    elif isinstance(node, promql_parser.Call):
        for argument in node.args:
            yield from _asked(argument, grouped)
    elif hasattr(node, "expr"):
        yield from _asked(node.expr, grouped)


def unknown(expr: str) -> list[str]:
    """Metrics and labels that nobody tells."""
    found = []
    for name, labels in asked(expr):
        known = PROMETHEUS_OWN.get(name)
        base = re.sub("_(bucket|sum|count)$", "", name)
        if base in CATALOGUE:
            spec = CATALOGUE[base]
            known = set(spec.labels) | ({"le"} if spec.kind == "histogram" else set())
            if (spec.kind == "histogram") != (base != name):
                known = None
        found += [name] if known is None else [f"{name}.{one}" for one in sorted(labels - known)]
    return found


def queries(board: Path) -> list[str]:
    """Every query of a dashboard."""
    panels = json.loads(board.read_text("utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def test_the_files_are_the_catalogue() -> None:
    """`python -m headrace.streams.monitoring compose` would change nothing."""
    assert stale(COMPOSE) == []


def test_a_stale_file_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing, changed and left over: each is named by the command, and mended by it."""
    write(tmp_path)
    assert main(["--check", str(tmp_path)]) == 0
    (tmp_path / "prometheus/alerts.yml").write_text("groups: []\n", "utf-8")
    (tmp_path / "grafana/dashboards/latency.json").unlink()
    (tmp_path / "grafana/dashboards/old.json").write_text("{}", "utf-8")
    differ = [f"grafana/dashboards/{n}.json" for n in ("latency", "old")]

    assert stale(tmp_path) == [*differ, "prometheus/alerts.yml"]
    assert main(["--check", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert [place for place in differ if place not in said] == []
    assert main([str(tmp_path)]) == 0
    assert stale(tmp_path) == []
    assert main([]) == 2


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alerts_ask_for_what_there_is(rule: dict[str, Any]) -> None:
    """Metrics and labels are the catalogue's, and the texts name labels that are there."""
    by = re.findall(r"by \(([^)]*)\)", rule["expr"])
    metrics = {name for name, _ in asked(rule["expr"])}
    told = [set(labels.split(", ")) for labels in by] or [
        set(CATALOGUE[n].labels) if n in CATALOGUE else PROMETHEUS_OWN[n] for n in metrics
    ]
    used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))

    assert metrics
    assert unknown(rule["expr"]) == []
    assert used - set.intersection(*told) == set()
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["action"]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_dashboards_ask_for_what_there_is(board: Path) -> None:
    """Every query is PromQL over metrics and labels of the catalogue."""
    found = queries(board)

    assert found
    assert [bad for expr in found for bad in unknown(expr)] == []


def test_every_metric_is_on_a_dashboard() -> None:
    """What is told can be looked at."""
    shown = {name for board in BOARDS for expr in queries(board) for name, _ in asked(expr)}
    shown = {re.sub("_bucket$", "", name) for name in shown}

    assert shown == set(CATALOGUE)


def test_what_nobody_tells_is_found() -> None:
    """Another name, another label, a histogram without its bucket, in any depth."""
    assert unknown("rate(headrace_nothing_total[5m]) > 1") == ["headrace_nothing_total"]
    assert unknown('sum by (pipeline, shop) (headrace_health_ready{site="x"})') == [
        "headrace_health_ready.shop",
        "headrace_health_ready.site",
    ]
    assert unknown("headrace_stream_latency_seconds") == ["headrace_stream_latency_seconds"]
    assert unknown("1 - avg_over_time(headrace_health_ready_bucket[5m])") == [
        "headrace_health_ready_bucket"
    ]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_panels_lie_beside_each_other(board: Path) -> None:
    """No panel covers another or leaves the page, and each has a number of its own."""
    panels = json.loads(board.read_text("utf-8"))["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells
        assert max(x for x, _ in cells) < 24
        taken |= cells

    assert len({panel["id"] for panel in panels}) == len(panels)


def test_each_alert_has_its_test() -> None:
    """What promtool is to see firing is every alert."""
    tests = yaml.safe_load((COMPOSE / "prometheus/alerts_test.yml").read_text("utf-8"))["tests"]
    fired = re.findall(r"alertname=\"(\w+)\"", str(tests[0]["promql_expr_test"]))

    assert sorted(fired) == sorted(rule["alert"] for rule in RULES)
    assert sorted(fired) == sorted(alert.name for group in GROUPS.values() for alert in group)


def test_prometheus_asks_our_workers() -> None:
    """The job that alerts name is the one that is scraped, from services of the compose file."""
    config = yaml.safe_load((COMPOSE / "prometheus/prometheus.yml").read_text("utf-8"))
    jobs = {job["job_name"]: job["static_configs"] for job in config["scrape_configs"]}
    services = yaml.safe_load((COMPOSE / "compose.yaml").read_text("utf-8"))["services"]

    assert config["rule_files"] == ["alerts.yml"]
    for target in jobs[JOB][0]["targets"]:
        host, port = target.split(":")
        assert services[host]["environment"]["HEADRACE_HEALTH"].endswith(f":{port}")
    assert jobs["collector"][0]["targets"][0].split(":")[0] in services


def test_what_is_written_is_what_is_checked() -> None:
    """The rule file is YAML with every alert once, in its group."""
    made = yaml.safe_load(contents()["prometheus/alerts.yml"])

    assert [[rule["alert"] for rule in group["rules"]] for group in made["groups"]] == [
        [alert.name for alert in alerts] for alerts in GROUPS.values()
    ]
