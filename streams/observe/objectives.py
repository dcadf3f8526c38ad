"""The objectives of one pipeline: judged from what its workers told, with alerts and incidents."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from headrace.schemas.objectives import Objective, Objectives
from headrace.schemas.observed import Incident, Severity
from headrace.streams.client.latency import BINS, count_within
from headrace.streams.observe.error_budget import BudgetState, ErrorBudget, Spent
from headrace.streams.observe.latencies import Counts
from headrace.streams.observe.samples import Samples

MOST_INCIDENTS = 200


class ObjectiveBook:
    """Judges objectives and keeps the incidents they made.

    Args:
        pipeline: Pipeline name.
        objectives: What is asked for.
        cause: Says what is wrong now, asked when an incident begins.
    """

    def __init__(self, pipeline: str, objectives: Objectives, cause: Callable[[], str]) -> None:
        self._pipeline, self._cause = pipeline, cause
        self._budgets = [ErrorBudget(*one) for one in objectives.every()]
        self._open: dict[tuple[str, str], tuple[Incident, int]] = {}
        self.incidents: deque[Incident] = deque(maxlen=MOST_INCIDENTS)
        """Newest last; those that go on among them."""
        self.causes: Counter[str] = Counter()
        """How many incidents there were of each cause."""

    def observe(
        self, now_s: float, wall_ms: int, samples: Samples, latencies: Counts
    ) -> list[Incident]:
        """Take a look.

        Args:
            now_s: Seconds that only rise.
            wall_ms: Wall clock, milliseconds since 1970.
            samples: Everything the workers counted so far.
            latencies: The same of latencies.

        Returns:
            Incidents that began, became more severe or ended.
        """
        changed = []
        for budget in self._budgets:
            found = _good_and_bad(budget.objective, samples, latencies)
            if found is None:
                continue
            budget.observe(now_s, good=found[0], bad=found[1])
            incident = self._judge(budget.state(), wall_ms, found[1])
            if incident is not None:
                changed.append(incident)
        return changed

    def states(self) -> list[BudgetState]:
        """Every objective, in the order of the file."""
        return [budget.state() for budget in self._budgets]

    @property
    def budgets(self) -> list[ErrorBudget]:
        """Of every objective, in the order of the file."""
        return list(self._budgets)

    def restore(
        self, now_s: float, spent: Mapping[tuple[str, str], Iterable[Spent]],
        incidents: Iterable[Incident],
    ) -> None:  # fmt: skip
        """Go on where an earlier life was.

        Args:
            now_s: Seconds that only rise, as of `observe`.
            spent: By set and objective, what was counted when.
            incidents: Oldest first; one that went on does so, unless another began since.
        """
        for budget in self._budgets:
            budget.restore(now_s, spent.get((budget.which, budget.name), ()))
        since = list(self.incidents)
        self.incidents.clear()
        for incident in incidents:
            key = (incident.which, incident.objective)
            if incident.end_ms is None and key in self._open:
                incident.end_ms = self._open[key][0].start_ms
            elif incident.end_ms is None:
                # Bad events of this life are counted from 0: those before are taken along.
                self._open[key] = (incident, -incident.bad)
            self.incidents.append(incident)
        self.incidents.extend(since)

    def _judge(self, state: BudgetState, wall_ms: int, bad: int) -> Incident | None:
        key = (state.which, state.name)
        known = self._open.get(key)
        if known is None:
            return None if state.alert is None else self._begin(state, state.alert, wall_ms, bad)
        incident, bad_before = known
        incident.burn = max(incident.burn, state.burn)
        incident.bad = bad - bad_before
        if state.alert is None:
            incident.end_ms = wall_ms
            del self._open[key]
            return incident
        if state.alert == "page" and incident.severity == "ticket":
            incident.severity = "page"
            return incident
        return None

    def _begin(self, state: BudgetState, severity: Severity, wall_ms: int, bad: int) -> Incident:
        incident = Incident(
            pipeline=self._pipeline,
            which=state.which,
            objective=state.name,
            severity=severity,
            start_ms=wall_ms,
            cause=self._cause(),
            burn=state.burn,
        )
        self._open[state.which, state.name] = (incident, bad)
        self.incidents.append(incident)
        self.causes[incident.cause] += 1
        return incident


def _good_and_bad(
    objective: Objective, samples: Samples, latencies: Counts
) -> tuple[int, int] | None:
    """Good and bad events so far; None where what tells them is not measured here."""
    if objective.kind == "success":
        return _success(samples)
    if objective.kind == "canary":
        return _probes(samples)
    hop = objective.hop if objective.kind == "latency" else "device_to_features"
    counts = [bins for (where, _), bins in latencies.items() if where == hop]
    if not counts:
        return None
    total = sum(counts, np.zeros(BINS, np.int64))
    good = count_within(total, objective.within_ms or 0.0)
    return good, int(total.sum()) - good


def _probes(samples: Samples) -> tuple[int, int] | None:
    outcomes = {
        labels[1]: int(value)
        for (name, labels), value in samples.items()
        if name == "headrace_canary_probes_total"
    }
    good = outcomes.pop("right", 0)
    return (good, sum(outcomes.values())) if good or outcomes else None


def _success(samples: Samples) -> tuple[int, int] | None:
    events: dict[tuple[str, str], float] = {}
    for (name, labels), value in samples.items():
        if name == "headrace_stream_events_total":
            events[labels[1], labels[2]] = value
    if not any(stage == "serve" for stage, _ in events):
        return None
    bad = (("intake", "dead"), ("enrich", "dead"), ("enrich", "late"), ("serve", "dead"))
    return int(events.get(("serve", "out"), 0)), int(sum(events.get(key, 0) for key in bad))
