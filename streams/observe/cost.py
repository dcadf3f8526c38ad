"""What predictions cost here, and what they would in a cloud: pure, from samples and prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headrace.schemas.prices import Prices
from headrace.streams.observe.samples import Samples

GB = 1e9
HOUR_S = 3600.0

EnergySource = Literal["rapl", "estimate"]
"""Where joules come from: the processors' own meter, or `prices.watts_per_core`."""


@dataclass(frozen=True, slots=True)
class Money:
    """What something costs, in the currency of the prices.

    Attributes:
        cpu: CPU time of our workers; bus and store are not in it.
        egress: Summaries that left the site.
        cloud: The same predictions of a cloud service, raw events sent there.
        saved: CPU time of session calls that the cache saved, estimated.
    """

    cpu: float
    egress: float
    cloud: float
    saved: float


@dataclass(frozen=True, slots=True)
class CostView:
    """Cost and energy of one pipeline.

    Attributes:
        currency: Of all money.
        per_1000: For 1000 predictions, of about the last ten seconds; None while none are made.
        total: Since `up` began.
        joules: Energy of our workers for 1000 predictions, None where nobody can tell.
        energy: Where that comes from.
    """

    currency: str
    per_1000: Money | None
    total: Money
    joules: float | None
    energy: EnergySource | None


def cost_view(
    prices: Prices, samples: Samples, per_s: Samples, metered_j: float | None
) -> CostView:
    """Everything that is known of cost.

    Args:
        prices: What things cost.
        samples: Counters of one pipeline since its start.
        per_s: How fast they rise.
        metered_j: Joules of a busy second of a core by the meter, None where there is none.
    """
    rate = _predicted(per_s)
    per_1000 = None
    if rate > 0:
        for_1000 = {sample: value * 1000 / rate for sample, value in per_s.items()}
        per_1000 = _money(prices, for_1000)
    core_j = prices.watts_per_core if metered_j is None else metered_j
    known = rate > 0 and core_j is not None
    joules = _sum(per_s, "headrace_worker_cpu_seconds_total") * 1000 / rate if known else None
    return CostView(
        currency=prices.currency,
        per_1000=per_1000,
        total=_money(prices, samples),
        joules=None if joules is None or core_j is None else joules * core_j,
        energy=None if joules is None else "estimate" if metered_j is None else "rapl",
    )


def money_samples(pipeline: str, found: CostView) -> Samples:
    """Metrics of the catalogue."""
    said: Samples = {}
    if found.per_1000 is not None:
        for kind in ("cpu", "egress", "cloud"):
            labels = (pipeline, kind, found.currency)
            said["headrace_cost_per_1000_money", labels] = getattr(found.per_1000, kind)
    for kind in ("cpu", "egress", "cloud", "saved"):
        labels = (pipeline, kind, found.currency)
        said["headrace_cost_money_total", labels] = getattr(found.total, kind)
    if found.joules is not None and found.energy is not None:
        said["headrace_cost_energy_joules", (pipeline, found.energy)] = found.joules
    return said


def _money(prices: Prices, of: Samples) -> Money:
    cpu_s = _sum(of, "headrace_worker_cpu_seconds_total")
    saved_s = _sum(of, "headrace_serving_saved_cpu_seconds_total")
    raw = _sum(of, "headrace_raw_bytes_total", stage="enrich")
    sent = _sum(of, "headrace_upstream_bytes_total")
    return Money(
        cpu=cpu_s / HOUR_S * prices.cpu_hour,
        egress=sent / GB * prices.egress_gb,
        cloud=_predicted(of) / 1000 * prices.cloud_1000 + raw / GB * prices.egress_gb,
        saved=saved_s / HOUR_S * prices.cpu_hour,
    )


def _predicted(of: Samples) -> float:
    return sum(
        value
        for (name, labels), value in of.items()
        if name == "headrace_stream_events_total" and labels[1:] == ("serve", "out")
    )


def _sum(of: Samples, metric: str, *, stage: str | None = None) -> float:
    return sum(
        value
        for (name, labels), value in of.items()
        if name == metric and stage in (None, labels[1])
    )
