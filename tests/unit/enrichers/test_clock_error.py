"""`clock_error` finds a device's clock in what the network leaves of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from fakes import enrich_world as world

from headrace.enrichers.enricher import Enricher
from headrace.enrichers.operators.clock import SPAN_MS
from headrace.schemas.views import Feature, View

START = world.START_MS // SPAN_MS * SPAN_MS


def estimates(events: Sequence[tuple[int, int]]) -> list[float]:
    """The estimate at events of one device, each so long after START in log time, so much behind.

    Args:
        events: Milliseconds after START at which it was logged, and log time less event time.
    """
    spec = world.pipeline({"v": View(features=(Feature(op="clock_error"),))})
    logged = [START + at for at, _ in events]
    values = [
        world.event(f"e{n}", "d0", log - behind, load=1.0)
        for n, (log, (_, behind)) in enumerate(zip(logged, events, strict=True))
    ]
    enricher = Enricher(spec)
    found = enricher.apply(enricher.new_state(), world.batch(values, 0, logged))
    assert len(found.events) == len(events)
    return [float(x) for x in found.featured.values[:, 0]]


def test_the_smallest_difference_so_far() -> None:
    """Behind, right and ahead; what an event took longer on its way moves nothing."""
    assert estimates([(0, 300), (1000, 250), (2000, 4000), (3000, 251)]) == [0.3, 0.25, 0.25, 0.25]
    assert estimates([(0, -2000), (500, -1500)]) == [-2.0, -2.0]


def test_it_is_forgotten_after_one_to_two_spans() -> None:
    """A clock that was set counts anew; a silent span in between forgets at once."""
    log = [(0, -900), (SPAN_MS, 10), (2 * SPAN_MS - 1, 20), (2 * SPAN_MS, 30), (4 * SPAN_MS, 40)]

    assert estimates(log) == [-0.9, -0.9, -0.9, 0.01, 0.04]


@pytest.mark.parametrize("error_ms", [-30_000, -40, 0, 1700])
def test_a_real_delay_leaves_the_clock(error_ms: int) -> None:
    """Two hundred events over a network of 5 ms at least: the error to within its shortest way."""
    delays = np.random.default_rng(5).exponential(60.0, 200).astype(int) + 5
    log = [(n * 1000, error_ms + delay) for n, delay in enumerate(delays.tolist())]

    assert error_ms / 1000 + 0.005 <= estimates(log)[-1] <= error_ms / 1000 + 0.010
