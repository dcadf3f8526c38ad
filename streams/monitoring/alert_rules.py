"""The alerts as a rule file of Prometheus: YAML, every text a JSON string, which YAML takes."""

from __future__ import annotations

import json
from collections.abc import Iterator

from headrace.schemas.metrics import CATALOGUE
from headrace.streams.monitoring.alerts import GROUPS, Alert

_HEAD = (
    "# Written by `python -m headrace.streams.monitoring`; change streams/monitoring, not this.\n"
)


def rule_file() -> str:
    """Every group, each alert with what to do as the metric catalogue says it."""
    lines = [line for name, alerts in GROUPS.items() for line in _group(name, alerts)]
    return _HEAD + "groups:\n" + "".join(f"{line}\n" for line in lines)


def _group(name: str, alerts: tuple[Alert, ...]) -> Iterator[str]:
    yield f"  - name: {name}"
    yield "    rules:"
    for alert in alerts:
        action = alert.action if alert.metric is None else CATALOGUE[alert.metric].action
        yield f"      - alert: {alert.name}"
        yield f"        expr: {json.dumps(alert.expr)}"
        yield f"        for: {alert.for_}"
        yield f"        labels: {{ severity: {alert.severity} }}"
        yield "        annotations:"
        yield f"          summary: {json.dumps(alert.summary)}"
        yield f"          action: {json.dumps(action)}"
