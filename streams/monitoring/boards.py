"""Which dashboards there are; every metric of the catalogue is on one at least."""

from __future__ import annotations

from headrace.schemas.metrics import MetricName
from headrace.streams.monitoring.panels import Board, Panel, panel_of
from headrace.streams.monitoring.queries import CHOSEN, QUANTILES, RATE, Query, quantile
from headrace.streams.observe.hops import HOPS, Hop

_LATENCY: MetricName = "headrace_stream_latency_seconds"
_EVENTS = "headrace_stream_events_total"


def _metrics(*names: MetricName) -> tuple[Panel, ...]:
    return tuple(panel_of(name) for name in names)


def _stat(title: str, description: str, expr: str, unit: str, legend: str) -> Panel:
    return Panel(title, description, (Query(expr, legend),), unit, "stat", 6)


def _rate(outcome: str, stage: str = "enrich") -> str:
    labels = f'{CHOSEN},outcome="{outcome}",stage="{stage}"'
    return f"sum by (pipeline) (rate({_EVENTS}{{{labels}}}{RATE}))"


def _hop(hop: Hop) -> Panel:
    """One hop's percentiles, of all device classes together and of each at p99."""
    only = f',hop="{hop}"'
    lines = [quantile(_LATENCY, q, "pipeline", only=only) for q in QUANTILES]
    lines.append(quantile(_LATENCY, 0.99, "pipeline, class", only=only))
    said = f"Measured in {HOPS[hop]}. The hop that rises is where the time goes."
    return Panel(hop.replace("_", " "), said, tuple(lines), "s", width=12)


OVERVIEW = Board(
    "headrace-overview",
    "Headrace: overview",
    (
        (
            "Now",
            (
                _stat(
                    "Ready",
                    "1: the pipeline works on new input. 0: /readyz has a line for each reason.",
                    f"min by (pipeline) (headrace_health_ready{{{CHOSEN}}})",
                    "none",
                    "{{pipeline}}",
                ),
                _stat("Events read", "By ENRICH.", _rate("in"), "cps", "{{pipeline}}"),
                _stat("Predictions", "By SERVE.", _rate("out", "serve"), "cps", "{{pipeline}}"),
                _stat(
                    "Dead letters",
                    "Share of what ENRICH read that can never succeed.",
                    f"{_rate('dead')} / ({_rate('in')} > 0)",
                    "percentunit",
                    "{{pipeline}}",
                ),
            ),
        ),
        (
            "Flow",
            (
                *_metrics("headrace_stream_events_total", "headrace_stream_lag_events"),
                Panel(
                    "ingest to prediction",
                    "What the pipeline itself takes.",
                    tuple(
                        quantile(_LATENCY, q, "pipeline", only=',hop="ingest_to_prediction"')
                        for q in QUANTILES
                    ),
                    "s",
                ),
            ),
        ),
        (
            "Health",
            _metrics(
                "headrace_health_ready",
                "headrace_health_live",
                "headrace_health_dependency",
                "headrace_worker_running",
                "headrace_worker_restarts_total",
            ),
        ),
        (
            "Workers",
            _metrics(
                "headrace_worker_resident_bytes",
                "headrace_worker_cpu_seconds_total",
                "headrace_telemetry_dropped_total",
            ),
        ),
        (
            "Cost",
            _metrics(
                "headrace_stream_cost_cpu_seconds",
                "headrace_cost_per_1000_money",
                "headrace_cost_money_total",
                "headrace_cost_energy_joules",
                "headrace_raw_bytes_total",
                "headrace_upstream_bytes_total",
            ),
        ),
    ),
)

LATENCY = Board(
    "headrace-latency",
    "Headrace: latency by hop",
    (
        ("Every hop", _metrics(_LATENCY)),
        ("One by one", tuple(_hop(hop) for hop in HOPS)),
    ),
)

SERVING = Board(
    "headrace-serving",
    "Headrace: serving",
    (
        (
            "Model",
            (
                *_metrics("headrace_serving_rows_total", "headrace_serving_calls_total"),
                Panel(
                    "rows per call",
                    "Falling: batches are small.",
                    (
                        Query(
                            f"sum by (pipeline) (rate(headrace_serving_rows_total{{{CHOSEN}}}"
                            f"{RATE})) / (sum by (pipeline) (rate(headrace_serving_calls_total"
                            f"{{{CHOSEN}}}{RATE})) > 0)",
                            "{{pipeline}}",
                        ),
                    ),
                    "short",
                ),
            ),
        ),
        (
            "What it costs",
            _metrics(
                "headrace_serving_cpu_seconds_total",
                "headrace_serving_cache_hits_total",
                "headrace_serving_saved_cpu_seconds_total",
            ),
        ),
        (
            "On the way",
            tuple(_hop(hop) for hop in ("features_to_inference", "inference_to_prediction")),
        ),
    ),
)

STORE = Board(
    "headrace-store",
    "Headrace: features and store",
    (
        (
            "State",
            _metrics(
                "headrace_stream_state_bytes",
                "headrace_stream_devices",
                "headrace_stream_behind_seconds",
            ),
        ),
        (
            "Store",
            _metrics(
                "headrace_store_rewrites_total",
                "headrace_stream_replayed_total",
                "headrace_stream_retries_total",
            ),
        ),
        (
            "Freshness",
            tuple(_hop(hop) for hop in ("enrich_to_features", "device_to_features")),
        ),
    ),
)

DELIVERY = Board(
    "headrace-delivery",
    "Headrace: delivery and dead letters",
    (
        (
            "What became of events",
            (
                Panel(
                    "dead and late",
                    "Events that were not served: look at the dead letter's codes and the "
                    "devices' clocks.",
                    (
                        Query(
                            f"sum by (pipeline, stage, outcome) (rate({_EVENTS}"
                            f'{{{CHOSEN},outcome=~"dead|late|unsummarized"}}{RATE}))',
                            "{{pipeline}} {{stage}} {{outcome}}",
                        ),
                    ),
                    "cps",
                ),
                *_metrics("headrace_stream_expired_total", "headrace_stream_batches_total"),
            ),
        ),
        (
            "Lanes",
            _metrics(
                "headrace_stream_in_flight_batches",
                "headrace_stream_busy_seconds_total",
                "headrace_stream_retries_total",
            ),
        ),
        (
            "Held",
            _metrics("headrace_stream_held_bytes", "headrace_stream_held_limit_bytes"),
        ),
    ),
)

QUALITY = Board(
    "headrace-quality",
    "Headrace: objectives, probes and drift",
    (
        (
            "Objectives",
            _metrics(
                "headrace_slo_budget_left_ratio",
                "headrace_slo_burn_ratio",
                "headrace_slo_incidents_total",
            ),
        ),
        ("Probes", _metrics("headrace_canary_probes_total", "headrace_canary_answer_seconds")),
        ("Drift", _metrics("headrace_drift_psi_ratio", "headrace_drift_alarms_total")),
    ),
)

BOARDS = (OVERVIEW, LATENCY, SERVING, STORE, DELIVERY, QUALITY)
