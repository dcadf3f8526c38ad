"""Judges one running pipeline every two seconds: objectives, alerts, incidents, the read model."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from headrace.schemas.observed import Incident
from headrace.schemas.pipeline import Pipeline
from headrace.schemas.prices import Prices
from headrace.streams.client.clock import wall_clock
from headrace.streams.observe.attributes import Told
from headrace.streams.observe.causes import cause_of
from headrace.streams.observe.cost import CostView, cost_view, money_samples
from headrace.streams.observe.drift_book import DriftBook
from headrace.streams.observe.energy import EnergyMeter
from headrace.streams.observe.objectives import ObjectiveBook
from headrace.streams.observe.readings import Readings
from headrace.streams.observe.samples import Samples
from headrace.streams.observe.view import PipelineView, Rates, cost_samples, stage_views
from headrace.streams.observe.webhook import Webhook

log = logging.getLogger("headrace.alerts")

LOOK_S = 2.0
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Health(Protocol):
    """Who knows how the pipeline is."""

    def not_live(self) -> Sequence[str]:
        """Why a worker should be started again; empty where none should."""

    def not_ready(self) -> Sequence[str]:
        """What keeps it from working; empty where nothing does."""

    def facts(self) -> dict[str, Any]:
        """Everything, ready to become JSON."""


class SiteWatch:
    """Everything that is known of one pipeline, judged as it comes.

    Args:
        pipeline: The pipeline.
        readings: What its workers told.
        health: How it is.
        stages: Stages that run here.
        webhook: Who is told of incidents, None: the log alone.
        prices: What things cost, None: no cost is told.
        meter: Tells what the machine draws, None: nobody does.
        now: Monotonic seconds.
        wall: Wall clock, seconds since 1970.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        readings: Readings,
        health: Health,
        stages: Sequence[str],
        *,
        webhook: Webhook | None = None,
        prices: Prices | None = None,
        meter: EnergyMeter | None = None,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = wall_clock,
    ) -> None:
        self._pipeline, self._readings, self._health = pipeline, readings, health
        self._stages, self._webhook, self._now, self._wall = stages, webhook, now, wall
        self._rates = Rates()
        self._prices, self._meter = prices, meter
        self._core_j: float | None = None
        if (drift := pipeline.observe.drift) is not None:
            readings.drift = DriftBook(drift, pipeline.model_inputs)
        self.book = ObjectiveBook(pipeline.name, pipeline.objectives, self._cause)

    async def watch(self) -> None:
        """Look on until cancelled; alerts are sent beside, one after another."""
        async with asyncio.TaskGroup() as group:
            waiting: asyncio.Queue[Incident] = asyncio.Queue()
            if self._webhook is not None:
                group.create_task(_deliver(self._webhook, waiting))
            while True:
                for incident in self.look():
                    waiting.put_nowait(incident)
                await asyncio.sleep(LOOK_S)

    def look(self) -> list[Incident]:
        """Take one look; incidents that began, became more severe or ended."""
        samples = self._readings.samples()
        self._rates.observe(self._now(), samples)
        if self._meter is not None:
            self._core_j = self._meter.joules_per_core_s(TICK_S)
        wall_ms = int(self._wall() * 1000)
        changed = self.book.observe(self._now(), wall_ms, samples, self._readings.latencies())
        for incident in changed:
            log.warning("%s", Told(line_of(incident)))
        return [_copy(incident) for incident in changed]

    def samples(self) -> Samples:
        """What the workers told, how the pipeline is, and the state of each objective."""
        found = self._readings.samples() | cost_samples(self._rates.per_s())
        found |= _health_samples(self._pipeline.name, self._health)
        if (cost := self._cost(found)) is not None:
            found |= money_samples(self._pipeline.name, cost)
        for state in self.book.states():
            labels = (self._pipeline.name, state.which, state.name)
            found[("headrace_slo_budget_left_ratio", labels)] = state.left
            found[("headrace_slo_burn_ratio", labels)] = state.burn
        for cause, count in self.book.causes.items():
            found["headrace_slo_incidents_total", (self._pipeline.name, cause)] = count
        return found

    def view(self) -> PipelineView:
        """The read model, as of the last look."""
        reasons = list(self._health.not_ready())
        samples = self._readings.samples()
        return PipelineView(
            pipeline=self._pipeline.name,
            ready=not reasons,
            reasons=reasons,
            stages=stage_views(self._stages, samples, self._rates.per_s()),
            latencies=self._readings.percentiles(),
            budgets=self.book.states(),
            incidents=list(self.book.incidents),
            drift=[] if self._readings.drift is None else self._readings.drift.latest(),
            cost=self._cost(samples),
            canary=None if self._readings.canary is None else self._readings.canary.facts(),
        )

    def _cost(self, samples: Samples) -> CostView | None:
        if self._prices is None:
            return None
        return cost_view(self._prices, samples, self._rates.per_s(), self._core_j)

    def _cause(self) -> str:
        return cause_of(self._health.facts(), self._readings.percentiles())


def _health_samples(pipeline: str, health: Health) -> Samples:
    """What the health endpoints say, as numbers."""
    facts = health.facts()
    found: Samples = {
        ("headrace_health_ready", (pipeline,)): float(not health.not_ready()),
        ("headrace_health_live", (pipeline,)): float(not health.not_live()),
    }
    for name in ("bus", "store"):
        found["headrace_health_dependency", (pipeline, name)] = float(facts[name] == "answers")
    return found


async def _deliver(webhook: Webhook, waiting: asyncio.Queue[Incident]) -> None:
    while True:
        await webhook.send(await waiting.get())


def _copy(incident: Incident) -> Incident:
    """As it is now: it goes on changing while it waits to be sent."""
    return Incident(**{name: getattr(incident, name) for name in incident.__struct_fields__})


def line_of(incident: Incident) -> str:
    """One line for people, of names and numbers alone."""
    what = f"objective {incident.which}.{incident.objective} of {incident.pipeline}"
    if incident.end_ms is not None:
        took_s = (incident.end_ms - incident.start_ms) / 1000
        return f"{what} is kept again after {took_s:.0f} s and {incident.bad} bad events"
    return (
        f"{what} burns its error budget {incident.burn:.1f} times too fast ({incident.severity}), "
        f"cause {incident.cause}; see headrace top"
    )
