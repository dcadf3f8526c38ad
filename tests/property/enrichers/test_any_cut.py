"""However a log is cut into batches, features, verdicts and state are the same, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes import enrich_world as world
from fakes.enrich_logs import logs
from fakes.enrich_reference import Reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.enrichers import runs
from headrace.enrichers.enricher import Enricher
from headrace.enrichers.operators import totals
from headrace.schemas.batch import F64, RecordBatch
from headrace.schemas.pipeline import Pipeline

PIPELINE = world.pipeline()
OF_ANOTHER_YEAR = world.pipeline(max_skew_s=1e9)

places = st.lists(st.integers(0, 30), max_size=12)


upsets = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["restart", "rewrite", "repeat"])), max_size=6
)


@given(logs(), places, upsets)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_cut_gives_the_same(
    records: RecordBatch, cuts: list[int], upsets: list[tuple[int, str]]
) -> None:
    """Any cut, with state saved, loaded or a batch dropped anywhere, gives the same bits."""
    cuts = [*cuts, *(place for place, _ in upsets)]
    world.check_cuts(Enricher(PIPELINE), records, cuts, upsets)


@given(logs(), places, st.sampled_from([PIPELINE, OF_ANOTHER_YEAR]))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_it_is_what_the_definitions_say(
    records: RecordBatch, cuts: list[int], pipeline: Pipeline
) -> None:
    """Every verdict and every feature bit is that of the event-by-event reference."""
    found = world.run(Enricher(pipeline), records, cuts)
    assert found.verdicts == world.expected(pipeline, records)


@pytest.mark.parametrize(("ranks", "cells"), [(0, 1 << 40), (1 << 40, 0)], ids=["hot", "by-rank"])
@given(logs())
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_each_path_alone(
    monkeypatch: pytest.MonkeyPatch, ranks: int, cells: int, records: RecordBatch
) -> None:
    """The path for hot keys and the path by rank each give the reference's bits on their own."""
    monkeypatch.setattr(runs, "HOT_RANKS_PER_GROUP", ranks)
    monkeypatch.setattr(runs, "HOT_CELLS", cells)
    found = world.run(Enricher(PIPELINE), records, [7])
    assert found.verdicts == world.expected(PIPELINE, records)


def irregular() -> RecordBatch:
    """A fixed log of one device and sums that round."""
    values = [
        world.event(f"e{n}", "d0", world.START_MS + n * 10, load=0.1 * n + 1 / (n + 3))
        for n in range(40)
    ]
    return world.batch(values)


def test_a_sum_over_the_batch_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator that sums a batch at once (pairwise, as NumPy does) fails this suite."""

    def batch_sum(_: Any, groups: runs.Runs, values: F64, carry: F64) -> F64:
        running = [
            carry[g] + np.sum(values[start : at + 1], axis=0)
            for g, start, size in zip(
                range(len(carry)), groups.starts.tolist(), groups.sizes.tolist(), strict=True
            )
            for at in range(start, start + size)
        ]
        return np.array(running)

    world.check_cuts(Enricher(PIPELINE), irregular(), [5, 11, 12, 30])
    monkeypatch.setattr(totals, "scan", batch_sum)
    with pytest.raises(AssertionError):
        world.check_cuts(Enricher(PIPELINE), irregular(), [5, 11, 12, 30])


def test_a_closed_form_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exponentially weighted mean in closed form fails this suite."""

    def closed(groups: runs.Runs, values: F64, carry: F64, alpha: F64) -> F64:
        out = np.empty_like(values)
        for g, start in enumerate(groups.starts.tolist()):
            x = values[start : start + groups.sizes[g]]
            s0 = np.where(np.isnan(carry[g]), x[0], carry[g])
            keep = (1 - alpha) ** np.arange(1, len(x) + 1)[:, None]
            out[start : start + len(x)] = keep * (s0 + np.cumsum(alpha * x / keep, axis=0))
        return out

    monkeypatch.setattr("headrace.enrichers.operators.ewma.scan_blend", closed)
    with pytest.raises(AssertionError):
        world.check_cuts(Enricher(PIPELINE), irregular(), [5, 11, 12, 30])


def test_the_reference_has_a_verdict_of_every_kind() -> None:
    """The reference itself tells dead, late, repeated and good events apart."""
    reference = Reference(PIPELINE)
    first = world.event("a", "d0", world.START_MS, load=1.0)
    later = world.event("b", "d0", world.START_MS + 6000, load=2.0)
    late = world.event("c", "d0", world.START_MS, load=3.0)
    log = world.START_MS + 10_000
    verdicts = [reference.record(value, log)[0] for value in (first, first, later, late, b"{")]
    assert verdicts == ["out", "repeated", "out", "late", "dead"]
