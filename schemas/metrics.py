"""The metric catalogue: every metric's name, kind, unit, labels and what to do when it moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

MetricName = Literal[
    "headrace_stream_events_total",
    "headrace_stream_batches_total",
    "headrace_stream_busy_seconds_total",
    "headrace_stream_retries_total",
    "headrace_stream_expired_total",
    "headrace_stream_replayed_total",
    "headrace_stream_lag_events",
    "headrace_stream_in_flight_batches",
    "headrace_stream_held_bytes",
    "headrace_stream_held_limit_bytes",
    "headrace_stream_state_bytes",
    "headrace_stream_devices",
    "headrace_stream_behind_seconds",
    "headrace_store_rewrites_total",
    "headrace_serving_calls_total",
    "headrace_serving_rows_total",
    "headrace_serving_cache_hits_total",
    "headrace_serving_cpu_seconds_total",
    "headrace_serving_saved_cpu_seconds_total",
    "headrace_stream_cost_cpu_seconds",
    "headrace_cost_per_1000_money",
    "headrace_cost_money_total",
    "headrace_cost_energy_joules",
    "headrace_upstream_bytes_total",
    "headrace_raw_bytes_total",
    "headrace_stream_latency_seconds",
    "headrace_telemetry_dropped_total",
    "headrace_slo_budget_left_ratio",
    "headrace_slo_burn_ratio",
    "headrace_slo_incidents_total",
    "headrace_canary_probes_total",
    "headrace_canary_answer_seconds",
    "headrace_drift_psi_ratio",
    "headrace_drift_alarms_total",
    "headrace_health_ready",
    "headrace_health_live",
    "headrace_health_dependency",
    "headrace_worker_running",
    "headrace_worker_restarts_total",
    "headrace_worker_resident_bytes",
    "headrace_worker_cpu_seconds_total",
]


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One entry of the catalogue.

    Attributes:
        kind: Counter, gauge or histogram.
        unit: UCUM unit.
        labels: Label names; never a key, an entity or anything a producer can choose.
        meaning: What it counts.
        action: What to do when it moves.
    """

    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    labels: tuple[str, ...]
    meaning: str
    action: str


_STAGE = ("pipeline", "stage")
_PARTITION = ("pipeline", "stage", "partition")
_WORKER = ("pipeline", "stage", "worker")

CATALOGUE: dict[MetricName, MetricSpec] = {
    "headrace_stream_events_total": MetricSpec(
        "counter",
        "{event}",
        (*_STAGE, "outcome"),
        "events by what became of them: in, out, dead, late, repeated; canary, of probes, which "
        "are not in out; of stage summarize also unsummarized",
        "dead or late rising: look at the dead letter's codes and the devices' clocks; "
        "unsummarized rising: summary.amend_s is shorter than events come late, or min_group keeps "
        "amendments back",
    ),
    "headrace_stream_batches_total": MetricSpec(
        "counter", "{batch}", _STAGE, "batches made durable", "flat while lag grows: see retries"
    ),
    "headrace_stream_busy_seconds_total": MetricSpec(
        "counter",
        "s",
        _STAGE,
        "time spent making batches durable: publishing, storing, checkpointing",
        "rising faster than batches: the bus or the store is slow",
    ),
    "headrace_stream_retries_total": MetricSpec(
        "counter",
        "{retry}",
        (*_STAGE, "code"),
        "steps repeated because a dependency was away",
        "rising: the code names the dependency",
    ),
    "headrace_stream_expired_total": MetricSpec(
        "counter",
        "{event}",
        _STAGE,
        "events that retention deleted before they were read",
        "any: raise the topic's retention above the longest outage",
    ),
    "headrace_stream_replayed_total": MetricSpec(
        "counter",
        "{event}",
        _STAGE,
        "events folded again on assignment to catch the state up",
        "large: the store was behind the group; check its persistence",
    ),
    "headrace_stream_lag_events": MetricSpec(
        "gauge",
        "{event}",
        _PARTITION,
        "events in the log after the stage's position",
        "growing: add a worker, or look at batch seconds",
    ),
    "headrace_stream_in_flight_batches": MetricSpec(
        "gauge",
        "{batch}",
        _PARTITION,
        "batches taken and not yet durable",
        "stuck at the limit: the partition is paused; its lane says why",
    ),
    "headrace_stream_held_bytes": MetricSpec(
        "gauge",
        "By",
        _STAGE,
        "bytes on the wire of what was fetched and is not finished",
        "at its limit for long: the stage is slower than its input; look at busy seconds",
    ),
    "headrace_stream_held_limit_bytes": MetricSpec(
        "gauge",
        "By",
        _STAGE,
        "the bound of held bytes: nothing is fetched or begun beyond it",
        "nothing: it follows the partitions of the worker's share",
    ),
    "headrace_stream_state_bytes": MetricSpec(
        "gauge",
        "By",
        _STAGE,
        "memory of the devices' rows and the event ids known, estimated; of stage summarize, of "
        "the parts of summaries",
        "growing without end: device ids that are never the same, look at the producers; of "
        "summarize above 256 MiB: one partition is behind, behind seconds say which",
    ),
    "headrace_stream_devices": MetricSpec(
        "gauge",
        "{device}",
        (*_STAGE, "clock"),
        "devices by their clocks: ahead, right, behind; all of them any without clock_error",
        "ahead or behind rising: mend the time service of the devices",
    ),
    "headrace_stream_behind_seconds": MetricSpec(
        "gauge",
        "s",
        _PARTITION,
        "event time by which a partition's closed windows are behind those of the partition that "
        "is furthest, of stage summarize; none of a partition for which no summary waits",
        "one high for long: all summaries wait for that partition; see its lag in enrich and "
        "serve, and the clocks of its devices",
    ),
    "headrace_store_rewrites_total": MetricSpec(
        "counter",
        "{rewrite}",
        _STAGE,
        "checkpoints written whole because the store had been rolled back or emptied",
        "any: check the store's persistence and failover",
    ),
    "headrace_serving_calls_total": MetricSpec(
        "counter", "{call}", _STAGE, "session calls", "rows per call falling: batches are small"
    ),
    "headrace_serving_rows_total": MetricSpec(
        "counter", "{row}", _STAGE, "rows scored by the model", "nothing: it follows the input"
    ),
    "headrace_serving_cache_hits_total": MetricSpec(
        "counter", "{row}", _STAGE, "rows answered by the cache", "zero with cache on: turn it off"
    ),
    "headrace_serving_cpu_seconds_total": MetricSpec(
        "counter",
        "s",
        ("pipeline", "model"),
        "CPU time of session calls, by the model's digest; of one intra-op thread, as is the "
        "default",
        "rising faster than rows: the model or its batches changed",
    ),
    "headrace_serving_saved_cpu_seconds_total": MetricSpec(
        "counter",
        "s",
        ("pipeline", "model"),
        "CPU time of session calls that the cache saved, estimated: what its rows would have cost "
        "at the mean of those scored; looking up is not taken off",
        "flat with cache on: turn it off",
    ),
    "headrace_stream_cost_cpu_seconds": MetricSpec(
        "gauge",
        "s",
        _STAGE,
        "CPU time of the stage's processes for 1000 predictions, of about the last ten seconds; "
        "none while nothing is predicted",
        "rising: smaller batches, or more work for each event; times your price of a CPU second it "
        "is what 1000 predictions cost",
    ),
    "headrace_cost_per_1000_money": MetricSpec(
        "gauge",
        "{money}",
        ("pipeline", "kind", "currency"),
        "what 1000 predictions of the last ten seconds cost by the file of prices: cpu, egress; "
        "cloud is what they would cost there, raw events sent along",
        "cpu above cloud: smaller is cheaper elsewhere; see the cost of each stage",
    ),
    "headrace_cost_money_total": MetricSpec(
        "counter",
        "{money}",
        ("pipeline", "kind", "currency"),
        "the same since the start; saved is what the cache saved of cpu, estimated",
        "nothing: it is the bill",
    ),
    "headrace_cost_energy_joules": MetricSpec(
        "gauge",
        "J",
        ("pipeline", "source"),
        "energy of the workers for 1000 predictions; source rapl: by the processors' meter, "
        "estimate: CPU time times watts_per_core of the file of prices",
        "rising with the cost in CPU time: the same; rising alone: the machine idles more",
    ),
    "headrace_upstream_bytes_total": MetricSpec(
        "counter", "By", _STAGE, "bytes of summaries published", "rising: fewer groups, less top"
    ),
    "headrace_raw_bytes_total": MetricSpec(
        "counter", "By", _STAGE, "bytes of telemetry read", "nothing: it follows the input"
    ),
    "headrace_stream_latency_seconds": MetricSpec(
        "histogram",
        "s",
        ("pipeline", "hop", "class"),
        "how long events took from one place to another, by device class; the hop says from when "
        "to when",
        "the hop that rises is where the time goes; device_to_ingest rising alone: the devices' "
        "clocks or their link",
    ),
    "headrace_telemetry_dropped_total": MetricSpec(
        "counter",
        "{item}",
        ("pipeline", "reason"),
        "what telemetry was not allowed to tell, or had no room for: attributes by name or value, "
        "log arguments, lines of other programs' loggers, spans, lines",
        "name or value rising: an attribute that is not on the list was added; span or line "
        "rising: the collector is away",
    ),
    "headrace_slo_budget_left_ratio": MetricSpec(
        "gauge",
        "1",
        ("pipeline", "set", "objective"),
        "share of the objective's error budget that is left in its window; below 0: overspent",
        "near 0: change nothing that is not a mend; the incidents say what spent it",
    ),
    "headrace_slo_burn_ratio": MetricSpec(
        "gauge",
        "1",
        ("pipeline", "set", "objective"),
        "how fast the error budget burns now; 1 spends it in exactly its window",
        "above 1 for long: an alert follows; its cause is named",
    ),
    "headrace_slo_incidents_total": MetricSpec(
        "counter",
        "{incident}",
        ("pipeline", "cause"),
        "incidents since the start, by what was wrong when they began",
        "one cause again and again: mend that",
    ),
    "headrace_canary_probes_total": MetricSpec(
        "counter",
        "{probe}",
        ("pipeline", "outcome"),
        "probe events of [canary] by what became of them: right, wrong, slow, missing, unsent",
        "missing: the pipeline does not get on, its health says where; wrong: features or model "
        "changed; slow: see the latencies by hop",
    ),
    "headrace_canary_answer_seconds": MetricSpec(
        "gauge",
        "s",
        ("pipeline",),
        "from sending the newest answered probe to having its prediction in hand",
        "rising while the latencies by hop do not: the way to the bus and back is slow",
    ),
    "headrace_drift_psi_ratio": MetricSpec(
        "gauge",
        "1",
        ("pipeline", "class", "quantity"),
        "how far the newest judged window is from the model's first ones: population stability "
        "index of a feature, score or confidence; change of a share (rate, missing)",
        "above 0.1 and an alarm: look at what changed at the devices, or train the model anew",
    ),
    "headrace_drift_alarms_total": MetricSpec(
        "counter",
        "{window}",
        ("pipeline", "class", "quantity"),
        "windows that differ by more than chance, at the false-alarm rate that was accepted",
        "rising: the same; one class alone points at its devices",
    ),
    "headrace_health_ready": MetricSpec(
        "gauge",
        "1",
        ("pipeline",),
        "1 while nothing keeps the pipeline from working on new input, as /readyz says",
        "0 for long: /readyz has a line for each reason",
    ),
    "headrace_health_live": MetricSpec(
        "gauge",
        "1",
        ("pipeline",),
        "1 while no worker is stuck or silent, as /livez says",
        "0: /livez names partition, offset and step; the watchdog starts the worker again",
    ),
    "headrace_health_dependency": MetricSpec(
        "gauge",
        "1",
        ("pipeline", "dependency"),
        "1 while bus or store answered the last question, 0 before the first one",
        "0 for long: /readyz says how it failed; nothing is lost, the lag grows meanwhile",
    ),
    "headrace_worker_running": MetricSpec(
        "gauge",
        "1",
        _WORKER,
        "1 while the worker's process runs, 0 while it is started again",
        "0 for long: its last line in the log says why",
    ),
    "headrace_worker_restarts_total": MetricSpec(
        "counter",
        "{restart}",
        _WORKER,
        "times the worker was started again",
        "rising: the log names the reason of each",
    ),
    "headrace_worker_resident_bytes": MetricSpec(
        "gauge",
        "By",
        _WORKER,
        "resident memory of the worker's process",
        "growing without end: see state bytes and held bytes",
    ),
    "headrace_worker_cpu_seconds_total": MetricSpec(
        "counter",
        "s",
        _WORKER,
        "CPU time used by the worker's process",
        "near a second per second: the stage has no more to give; add a worker",
    ),
}

if set(CATALOGUE) != set(get_args(MetricName)):
    raise AssertionError("the metric catalogue and its names differ")
