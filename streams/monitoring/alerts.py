"""What an operator is told of by Prometheus: conditions over the metric catalogue."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.schemas.metrics import MetricName
from headrace.schemas.observed import Severity
from headrace.streams.health.verdict import Limits
from headrace.streams.observe.error_budget import RULES

JOB = "headrace"
"""What Prometheus calls our workers; `up` of it is Prometheus's own metric."""

WORKER_LIMIT_BYTES = 2 << 30
"""The memory that the manifests allow a worker."""

_LAG = "sum by (pipeline, stage) (headrace_stream_lag_events)"
_READ = 'sum by (pipeline, stage) (rate(headrace_stream_events_total{outcome="in"}[10m]))'
_BURN: MetricName = "headrace_slo_burn_ratio"


@dataclass(frozen=True, slots=True)
class Alert:
    """One condition.

    Attributes:
        name: What it is called.
        expr: PromQL; it holds for every series that comes back.
        for_: How long it must hold, as Prometheus writes it.
        severity: Whether somebody has to come now.
        summary: One line, with labels as ``{{ $labels.x }}``.
        metric: Whose entry in the catalogue says what to do.
        action: What to do, where no metric of ours says it.
    """

    name: str
    expr: str
    for_: str
    severity: Severity
    summary: str
    metric: MetricName | None = None
    action: str = ""


_PIPELINE = "{{ $labels.pipeline }}"
_STAGE = "{{ $labels.stage }} of {{ $labels.pipeline }}"
_WORKER = "worker {{ $labels.worker }} of {{ $labels.pipeline }}"
_OBJECTIVE = "objective {{ $labels.set }}.{{ $labels.objective }} of {{ $labels.pipeline }}"


def _share(outcome: str) -> str:
    """Of what a stage took, the share with this outcome."""
    events = f'headrace_stream_events_total{{outcome="{outcome}"}}'
    return f"sum by (pipeline, stage) (rate({events}[10m])) / ({_READ} > 0)"


def _new(counter: MetricName, within: str) -> str:
    """A counter rose, or is there for the first time: a first count is no increase."""
    return f"increase({counter}[{within}]) > 0 or ({counter} > 0 unless {counter} offset {within})"


_FAST, _SLOW, _TICKET = RULES

RUNNING = (
    Alert(
        "HeadraceAbsent",
        f'up{{job="{JOB}"}} == 0',
        "1m",
        "page",
        "{{ $labels.instance }} does not answer",
        action="see whether the process runs, and its last line; /livez of it must answer",
    ),
    Alert(
        "HeadraceNotLive",
        "headrace_health_live == 0",
        "1m",
        "page",
        f"a worker of {_PIPELINE} is stuck or silent",
        "headrace_health_live",
    ),
    Alert(
        "HeadraceDependencyAway",
        "headrace_health_dependency == 0",
        "1m",
        "page",
        f"{{{{ $labels.dependency }}}} does not answer {_PIPELINE}",
        "headrace_health_dependency",
    ),
    Alert(
        "HeadraceNotReady",
        "headrace_health_ready == 0",
        "5m",
        "page",
        f"{_PIPELINE} does not work on new input",
        "headrace_health_ready",
    ),
    Alert(
        "HeadraceWorkerDown",
        "headrace_worker_running == 0",
        "1m",
        "page",
        f"{_WORKER} does not run",
        "headrace_worker_running",
    ),
    Alert(
        "HeadraceWorkerRestarts",
        "increase(headrace_worker_restarts_total[10m]) > 1.5",
        "0m",
        "ticket",
        f"{_WORKER} is started again and again",
        "headrace_worker_restarts_total",
    ),
)

DATA = (
    Alert(
        "HeadraceLag",
        f"{_LAG} > 1000 and sum by (pipeline, stage) (deriv(headrace_stream_lag_events[10m])) > 0",
        "10m",
        "page",
        f"{_STAGE} falls behind: {{{{ $value }}}} records wait",
        "headrace_stream_lag_events",
    ),
    Alert(
        "HeadraceExpired",
        "increase(headrace_stream_expired_total[10m]) > 0",
        "0m",
        "page",
        f"retention deleted events before {_STAGE} read them",
        "headrace_stream_expired_total",
    ),
    Alert(
        "HeadraceDeadLetters",
        f"{_share('dead')} > 0.01",
        "5m",
        "page",
        f"{{{{ $value | humanizePercentage }}}} of what {_STAGE} reads can never succeed",
        "headrace_stream_events_total",
    ),
    Alert(
        "HeadraceLate",
        f"{_share('late')} > 0.05",
        "15m",
        "ticket",
        f"{{{{ $value | humanizePercentage }}}} of what {_STAGE} reads is late",
        "headrace_stream_events_total",
    ),
    Alert(
        "HeadraceStoreRewritten",
        "increase(headrace_store_rewrites_total[10m]) > 0",
        "0m",
        "ticket",
        f"the store of {_STAGE} was rolled back or emptied",
        "headrace_store_rewrites_total",
    ),
    Alert(
        "HeadraceSummariesWait",
        "headrace_stream_behind_seconds > 900",
        "10m",
        "ticket",
        f"summaries of {_PIPELINE} wait for partition {{{{ $labels.partition }}}}",
        "headrace_stream_behind_seconds",
    ),
    Alert(
        "HeadraceClocks",
        'sum by (pipeline, stage) (headrace_stream_devices{clock=~"ahead|behind"}) / '
        "sum by (pipeline, stage) (headrace_stream_devices) > 0.1",
        "30m",
        "ticket",
        f"clocks of {{{{ $value | humanizePercentage }}}} of the devices of {_PIPELINE} are wrong",
        "headrace_stream_devices",
    ),
)

MEMORY = (
    Alert(
        "HeadraceMemory",
        f"headrace_worker_resident_bytes > {WORKER_LIMIT_BYTES * 3 // 4}",
        "10m",
        "page",
        f"{_WORKER} has {{{{ $value | humanize1024 }}}}B, its limit is near",
        "headrace_worker_resident_bytes",
    ),
    Alert(
        "HeadraceHeld",
        "headrace_stream_held_bytes > 0.9 * (headrace_stream_held_limit_bytes > 0)",
        "15m",
        "ticket",
        f"{_STAGE} holds what it may and fetches no more",
        "headrace_stream_held_bytes",
    ),
    Alert(
        "HeadraceSummariesHeld",
        f'headrace_stream_state_bytes{{stage="summarize"}} > {Limits().parts_bytes}',
        "10m",
        "ticket",
        f"parts of summaries of {_PIPELINE} fill the memory",
        "headrace_stream_state_bytes",
    ),
)

PROMISES = (
    Alert(
        "HeadraceBudgetBurnsFast",
        f"{_BURN} > {_FAST.burn:g}",
        "2m",
        _FAST.severity,
        f"{_OBJECTIVE} burns its budget {{{{ $value | humanize }}}} times too fast",
        _BURN,
    ),
    Alert(
        "HeadraceBudgetBurns",
        f"avg_over_time({_BURN}[6h]) > {_SLOW.burn:g} and {_BURN} > {_SLOW.burn:g}",
        "15m",
        _SLOW.severity,
        f"{_OBJECTIVE} burns its budget {{{{ $value | humanize }}}} times too fast, for hours",
        _BURN,
    ),
    Alert(
        "HeadraceBudgetBurnsSlowly",
        f"avg_over_time({_BURN}[3d]) > {_TICKET.burn:g} and {_BURN} > {_TICKET.burn:g}",
        "1h",
        _TICKET.severity,
        f"{_OBJECTIVE} burns its budget too fast, for days",
        _BURN,
    ),
    Alert(
        "HeadraceBudgetSpent",
        "headrace_slo_budget_left_ratio <= 0",
        "5m",
        "ticket",
        f"{_OBJECTIVE} has nothing left of its budget",
        "headrace_slo_budget_left_ratio",
    ),
    Alert(
        "HeadraceProbesFail",
        'sum by (pipeline) (increase(headrace_canary_probes_total{outcome!="right"}[5m])) > 2',
        "1m",
        "page",
        f"{_PIPELINE} does not answer its probes as it should",
        "headrace_canary_probes_total",
    ),
    Alert(
        "HeadraceDrift",
        _new("headrace_drift_alarms_total", "1h"),
        "0m",
        "ticket",
        f"{{{{ $labels.quantity }}}} of {_PIPELINE}, class {{{{ $labels.class }}}}, has drifted",
        "headrace_drift_psi_ratio",
    ),
    Alert(
        "HeadraceTelemetryDropped",
        'sum by (pipeline, reason) (increase(headrace_telemetry_dropped_total{reason=~"span|line"}'
        "[15m])) > 0",
        "15m",
        "ticket",
        f"telemetry of {_PIPELINE} is dropped: {{{{ $labels.reason }}}}",
        "headrace_telemetry_dropped_total",
    ),
)

GROUPS: dict[str, tuple[Alert, ...]] = {
    "headrace-running": RUNNING,
    "headrace-data": DATA,
    "headrace-memory": MEMORY,
    "headrace-promises": PROMISES,
}
