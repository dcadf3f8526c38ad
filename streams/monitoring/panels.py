"""Panels and dashboards as Grafana reads them, JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from headrace.schemas.metrics import CATALOGUE, MetricName
from headrace.streams.monitoring.queries import Query, queries_of, unit_of

SCHEMA_VERSION = 38
"""Of the dashboard's form: Grafana 10.1's. Later ones bring it up to date when they read it."""

SOURCE = {"type": "prometheus", "uid": "${source}"}
COLUMNS, HEIGHT = 24, 8


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture.

    Attributes:
        title: What it shows.
        description: What that means, and what to do when it moves.
        queries: Its lines.
        unit: Grafana's name of their unit.
        kind: How they are drawn.
        width: Columns of 24.
    """

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: str
    kind: Literal["timeseries", "stat"] = "timeseries"
    width: int = 8


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard.

    Attributes:
        uid: Names it, in its file's name and its address.
        title: What it shows.
        rows: Heading and panels of each.
    """

    uid: str
    title: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]


def panel_of(name: MetricName) -> Panel:
    """A metric by itself, as the catalogue tells of it."""
    spec = CATALOGUE[name]
    description = f"`{name}`: {spec.meaning}.\n\nWhen it moves: {spec.action}."
    title = name.removeprefix("headrace_").removesuffix("_total").replace("_", " ")
    return Panel(title, description, queries_of(name), unit_of(name))


def dashboard(board: Board) -> dict[str, Any]:
    """The whole dashboard, ready to become JSON; the same board gives the same."""
    return {
        "uid": board.uid,
        "title": board.title,
        "tags": ["headrace"],
        "editable": True,
        "schemaVersion": SCHEMA_VERSION,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_source(), _pipelines()]},
        "links": [_others()],
        "panels": list(_placed(board.rows)),
    }


def _placed(rows: Sequence[tuple[str, Sequence[Panel]]]) -> Iterator[dict[str, Any]]:
    """Panels from left to right, and down where a row is full."""
    number, top = 0, 0
    for heading, panels in rows:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": heading,
            "collapsed": False,
            "panels": [],
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
        }
        top, left = top + 1, 0
        for panel in panels:
            if left + panel.width > COLUMNS:
                top, left = top + HEIGHT, 0
            number += 1
            place = {"x": left, "y": top, "w": panel.width, "h": HEIGHT}
            yield {"id": number, "gridPos": place, **_drawn(panel)}
            left += panel.width
        top += HEIGHT


def _drawn(panel: Panel) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "options": _OPTIONS[panel.kind],
        "targets": [_target(chr(65 + n), query) for n, query in enumerate(panel.queries)],
    }


_OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "values": False},
    },
}


def _target(letter: str, query: Query) -> dict[str, Any]:
    return {
        "refId": letter,
        "datasource": SOURCE,
        "expr": query.expr,
        "legendFormat": query.legend,
        "range": True,
    }


def _source() -> dict[str, Any]:
    """Which Prometheus."""
    return {"name": "source", "type": "datasource", "label": "Prometheus", "query": "prometheus"}


def _pipelines() -> dict[str, Any]:
    """Which pipelines: all of them, until the reader chooses."""
    return {
        "name": "pipeline",
        "type": "query",
        "label": "Pipeline",
        "datasource": SOURCE,
        "query": "label_values(headrace_health_ready, pipeline)",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _others() -> dict[str, Any]:
    """The way to the other dashboards, with the same pipelines and time."""
    return {
        "title": "Headrace",
        "type": "dashboards",
        "icon": "external link",
        "tooltip": "",
        "url": "",
        "tags": ["headrace"],
        "asDropdown": True,
        "targetBlank": False,
        "includeVars": True,
        "keepTime": True,
    }
