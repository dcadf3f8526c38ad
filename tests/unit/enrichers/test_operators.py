"""Each operator on a few events, by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from fakes import enrich_world as world

from headrace.enrichers.enricher import Enricher
from headrace.schemas.views import Feature, View

NAN = math.nan


def feature(feature: Feature, events: Sequence[tuple[float, float | None]]) -> list[float]:
    """One feature of one device at events of these times (seconds) and loads."""
    spec = world.pipeline({"v": View(features=(feature,))})
    values = [
        world.event(f"e{n}", "d0", world.START_MS + round(t * 1000), heat=x)
        for n, (t, x) in enumerate(events)
    ]
    values = [v.replace(b'"heat"', b'"load": 1, "heat"') for v in values]
    subject = Enricher(spec)
    found = subject.apply(subject.new_state(), world.batch(values))
    assert len(found.events) == len(events)
    return [float(x) for x in found.featured.values[:, 0]]


def heat(op: str, **parameters: object) -> Feature:
    """An operator over the optional metric."""
    return Feature(op=op, metrics=("heat",), **parameters)  # type: ignore[arg-type] # by name


LOG = [(0.0, 4.0), (1.0, 6.0), (1.0, None), (3.0, 5.0), (2.0, 9.0)]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (heat("raw"), [4.0, 6.0, NAN, 5.0, 9.0]),
        (heat("delta"), [0.0, 2.0, NAN, -1.0, 4.0]),
        (heat("rate"), [0.0, 2.0, NAN, -0.5, 0.0]),
        (heat("ewma", alpha=0.5), [4.0, 5.0, 5.0, 5.0, 7.0]),
        (Feature(op="since_last"), [0.0, 1.0, 0.0, 2.0, 0.0]),
        (heat("zscore", alpha=0.5, warm_up=2), [0.0, 0.0, NAN, 0.0, 4.0 / math.sqrt(0.5)]),
        (Feature(op="count", window_s=2, tile_s=1), [1.0, 2.0, 3.0, 1.0, 3.0]),
        (heat("sum", window_s=2, tile_s=1), [4.0, 10.0, 10.0, 5.0, 15.0]),
        (heat("mean", window_s=2, tile_s=1), [4.0, 5.0, 5.0, 5.0, 7.5]),
        (heat("std", window_s=2, tile_s=1), [0.0, 1.0, 1.0, 0.0, 1.5]),
        (heat("min", window_s=2, tile_s=1), [4.0, 4.0, 4.0, 5.0, 6.0]),
        (heat("max", window_s=2, tile_s=1), [4.0, 6.0, 6.0, 5.0, 9.0]),
    ],
    ids=lambda value: value.op if isinstance(value, Feature) else "",
)
def test_by_hand(spec: Feature, expected: list[float]) -> None:
    """Each operator says what its definition says, with a gap and an event out of order."""
    np.testing.assert_allclose(feature(spec, LOG), expected, rtol=1e-12)


@pytest.mark.parametrize("op", ["mean", "std", "min", "max"])
def test_a_window_without_values_is_missing(op: str) -> None:
    """Statistics of nothing are NaN, a sum of nothing is 0."""
    assert math.isnan(feature(heat(op, window_s=2), [(0.0, None)])[0])
    assert feature(heat("sum", window_s=2), [(0.0, None)]) == [0.0]


def test_spread_survives_a_large_offset() -> None:
    """A deviation of 1 around 1e9 is found: sums are taken from a value of the tile."""
    log = [(n * 0.01, 1e9 + (-1) ** n) for n in range(200)]

    assert feature(heat("std", window_s=10), log)[-1] == pytest.approx(1.0, rel=1e-9)


def test_a_flat_history_has_no_score() -> None:
    """A device that always said the same gets 0, not a division by its rounding."""
    log = [(float(n), 71.3) for n in range(40)] + [(40.0, 71.4)]

    assert set(feature(heat("zscore", warm_up=5), log)) == {0.0}


def test_a_silent_device_starts_its_window_anew() -> None:
    """Tiles of long ago are not taken for those of now, though they share a place in the ring."""
    spec = heat("sum", window_s=2, tile_s=1)
    ring_s = 2 + 5

    assert feature(spec, [(0.0, 1.0), (ring_s, 2.0), (2.0 * ring_s, 4.0)]) == [1.0, 2.0, 4.0]
