"""One read model of a running pipeline, for terminals, pages and programs alike."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from headrace.schemas.observed import Finding, Incident, Percentiles
from headrace.streams.observe.cost import CostView
from headrace.streams.observe.error_budget import BudgetState
from headrace.streams.observe.samples import Sample, Samples
from headrace.streams.workers.jobs import groups_of, worker_of

RATE_S = 10.0
"""Rates are of about the last ten seconds."""


@dataclass(frozen=True, slots=True)
class StageView:
    """One stage, all its workers here together.

    Attributes:
        stage: Its name.
        inside: The stage whose process it runs in, None of one with its own: workers and restarts
            are that one's, cores and memory are told there alone.
        running: Workers that run.
        workers: Workers there are.
        restarts: How often one was started again.
        events: Events by outcome since the start.
        per_s: Events by outcome per second.
        lag: Records behind.
        cores: CPU seconds per second.
        cost_s: CPU seconds of its processes for 1000 predictions, None while none are made here.
        rss_mb: Resident memory, MiB.
    """

    stage: str
    inside: str | None
    running: int
    workers: int
    restarts: int
    events: dict[str, int]
    per_s: dict[str, float]
    lag: int
    cores: float
    cost_s: float | None
    rss_mb: float


@dataclass(frozen=True, slots=True)
class PipelineView:
    """Everything about one pipeline at one moment; no content, no device.

    Attributes:
        pipeline: Its name.
        ready: It works on new input.
        reasons: What keeps it from that.
        stages: In the order of the data path.
        latencies: Of the last minute.
        budgets: Its objectives.
        incidents: Newest last, those that go on among them.
        drift: Of the window judged last.
        cost: What predictions cost, None without a file of prices.
        canary: What became of probes, None where none are sent; see `CanaryBook.facts`.
    """

    pipeline: str
    ready: bool
    reasons: list[str]
    stages: list[StageView]
    latencies: list[Percentiles]
    budgets: list[BudgetState]
    incidents: list[Incident]
    drift: list[Finding]
    cost: CostView | None
    canary: dict[str, Any] | None

    def facts(self) -> dict[str, Any]:
        """Ready to become JSON."""
        made = asdict(self)
        made["incidents"] = self.incidents
        return made


class Rates:
    """Samples over the last seconds, for differences per second."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, Samples]] = deque()

    def observe(self, now_s: float, samples: Samples) -> None:
        """Keep what is counted now; monotonic seconds."""
        self._kept.append((now_s, samples))
        while len(self._kept) > 2 and now_s - self._kept[1][0] >= RATE_S:
            self._kept.popleft()

    def per_s(self) -> Samples:
        """How much each sample rose per second since the oldest kept; none before two looks."""
        if len(self._kept) < 2:
            return {}
        (then_s, then), (now_s, now) = self._kept[0], self._kept[-1]
        took_s = max(now_s - then_s, 1e-3)
        return {sample: (value - then.get(sample, 0.0)) / took_s for sample, value in now.items()}


def cost_samples(per_s: Samples) -> Samples:
    """CPU seconds for 1000 predictions by stage, from rates; none while nothing is predicted."""
    out = "headrace_stream_events_total"
    predicted = {
        labels[0]: rate
        for (name, labels), rate in per_s.items()
        if name == out and labels[1:] == ("serve", "out")
    }
    found: Samples = {}
    for (name, labels), cores in per_s.items():
        if name == "headrace_worker_cpu_seconds_total" and predicted.get(labels[0], 0.0) > 0:
            cost: Sample = ("headrace_stream_cost_cpu_seconds", labels[:2])
            found[cost] = found.get(cost, 0.0) + cores / predicted[labels[0]] * 1000
    return found


def stage_views(stages: Sequence[str], samples: Samples, per_s: Samples) -> list[StageView]:
    """Each stage and those beside them, from samples of one pipeline and their rates."""
    return [_stage(stage, samples, per_s) for stage in groups_of(stages)]


def _stage(stage: str, samples: Samples, per_s: Samples) -> StageView:
    process = worker_of(stage)

    def total(name: str, values: Samples = samples, *, of: str = stage) -> float:
        return sum(v for (n, labels), v in values.items() if n == name and labels[1] == of)

    def by_outcome(values: Samples) -> dict[str, float]:
        name = "headrace_stream_events_total"
        return {k[1][2]: v for k, v in values.items() if k[0] == name and k[1][1] == stage}

    costs = [cost for (_, labels), cost in cost_samples(per_s).items() if labels[1] == stage]
    return StageView(
        stage=stage,
        inside=None if process == stage else process,
        running=int(total("headrace_worker_running", of=process)),
        workers=sum(k[0] == "headrace_worker_running" and k[1][1] == process for k in samples),
        restarts=int(total("headrace_worker_restarts_total", of=process)),
        events={name: int(count) for name, count in by_outcome(samples).items()},
        per_s={name: round(rate, 1) for name, rate in by_outcome(per_s).items()},
        lag=int(total("headrace_stream_lag_events")),
        cores=round(total("headrace_worker_cpu_seconds_total", per_s), 2),
        cost_s=round(costs[0], 6) if costs else None,
        rss_mb=round(total("headrace_worker_resident_bytes") / (1 << 20), 1),
    )
