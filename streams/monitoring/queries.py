"""From an entry of the metric catalogue to the PromQL that shows it."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.schemas.metrics import CATALOGUE, MetricName

CHOSEN = 'pipeline=~"$pipeline"'
"""The pipelines that the reader of a dashboard has chosen."""

RATE = "[$__rate_interval]"
QUANTILES = (0.5, 0.95, 0.99)

_UNITS = {"s": "s", "By": "bytes", "1": "none", "J": "joule", "{money}": "none"}
_RATE_UNITS = {"s": "none", "By": "Bps"}
_WORST = {"headrace_health_ready", "headrace_health_live", "headrace_health_dependency"}
"""Truths: of several that are told of one thing, the worst counts."""


@dataclass(frozen=True, slots=True)
class Query:
    """One line, or one for each value of its labels.

    Attributes:
        expr: PromQL; ``$pipeline`` and ``$__rate_interval`` are Grafana's to fill in.
        legend: What the lines are called, ``{{label}}`` for a label's value.
    """

    expr: str
    legend: str


def queries_of(name: MetricName) -> tuple[Query, ...]:
    """What shows a metric: a rate of a counter, a value of a gauge, quantiles of a histogram.

    Example:
        >>> queries_of("headrace_stream_batches_total")[0].expr
        'sum by (pipeline, stage) (rate(headrace_stream_batches_total{pipeline=~"$pipeline"}[$__rate_interval]))'
        >>> queries_of("headrace_health_ready")[0].legend
        '{{pipeline}}'
    """  # noqa: E501 - one query is one line
    spec = CATALOGUE[name]
    by, legend = ", ".join(spec.labels), " ".join(f"{{{{{label}}}}}" for label in spec.labels)
    if spec.kind == "counter":
        return (Query(f"sum by ({by}) (rate({name}{{{CHOSEN}}}{RATE}))", legend),)
    if spec.kind == "gauge":
        fold = "min" if name in _WORST else "max" if spec.unit == "1" else "sum"
        return (Query(f"{fold} by ({by}) ({name}{{{CHOSEN}}})", legend),)
    return tuple(quantile(name, q, "pipeline, hop") for q in QUANTILES)


def quantile(name: MetricName, q: float, by: str, *, only: str = "") -> Query:
    """A quantile of a histogram over all device classes.

    Args:
        name: The histogram.
        q: Which, 0 to 1.
        by: Labels that keep a line of their own.
        only: Further label matchers, each with its comma before it.
    """
    buckets = f"sum by (le, {by}) (rate({name}_bucket{{{CHOSEN}{only}}}{RATE}))"
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return Query(f"histogram_quantile({q:g}, {buckets})", f"p{q * 100:g} {legend}")


def unit_of(name: MetricName) -> str:
    """Grafana's name of the unit in which `queries_of` tells of it.

    Example:
        >>> unit_of("headrace_raw_bytes_total"), unit_of("headrace_stream_lag_events")
        ('Bps', 'short')
    """
    spec = CATALOGUE[name]
    if spec.kind == "counter":
        return _RATE_UNITS.get(spec.unit, "cps")
    return "percentunit" if name.endswith("left_ratio") else _UNITS.get(spec.unit, "short")
