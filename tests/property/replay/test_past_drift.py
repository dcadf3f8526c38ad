"""Drift computed anew from the log is what `up` told: equal values, however either was cut."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import msgspec
from fakes.drift_log import PARTS, PER_WINDOW, WINDOWS, flow, lived, log
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.block import FeatureBlock
from headrace.schemas.observed import Finding, Image
from headrace.schemas.pipeline import Pipeline
from headrace.streams.replay.past_drift import PastDrift


def computed(
    spec: Pipeline,
    logs: dict[int, list[FeatureBlock]],
    values: dict[int, list[bytes]],
    cuts: list[int],
    first: int,
    image: Image | None,
) -> list[Finding]:
    """The same from the log, with repeats that a restarted worker makes."""
    assert spec.observe.drift is not None
    past = PastDrift(spec, spec.observe.drift, first, WINDOWS, image)
    for part in PARTS:
        past.answered(part, [*values[part][:50], *values[part]])
        edges = sorted({0, PER_WINDOW, *(cut % PER_WINDOW for cut in cuts)})
        pieces = [
            FeatureBlock.decode(whole.slice(start, stop).encode())
            for whole in logs[part]
            for start, stop in pairwise(edges)
        ]
        past.featured(part, [piece for one in pieces for piece in (one, one)])
    return past.findings()


CUTS = st.lists(st.integers(1, PER_WINDOW - 1), max_size=3)


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 99),
    live=CUTS,
    later=CUTS,
    every=st.integers(1, 3),
    first=st.integers(0, WINDOWS - 1),
)
def test_the_log_gives_the_values_that_were_told(
    seed: int, live: list[int], later: list[int], every: int, first: int
) -> None:
    """From the log's start, and from what was kept on the way: the same findings, to the bit."""
    spec = flow(every)
    logs = {part: log(seed, part) for part in PARTS}
    told, image, values = asyncio.run(lived(spec, logs, live))
    wanted = [finding for finding in told if finding.window >= first]

    assert any(finding.alarm for finding in told)
    assert any(not finding.alarm for finding in told)
    assert computed(spec, logs, values, later, first, None) == wanted
    if image.judged < first:
        assert computed(spec, logs, values, later, first, image) == wanted


def test_a_change_of_one_prediction_is_seen() -> None:
    """The comparison can fail: another score gives other values."""
    spec = flow(1)
    logs = {part: log(1, part) for part in PARTS}
    told, _, values = asyncio.run(lived(spec, logs, []))
    changed = msgspec.json.decode(values[0][-1])
    changed["score"] = 0.5 * changed["score"] + 0.1
    values[0][-1] = msgspec.json.encode(changed)

    assert computed(spec, logs, values, [], 0, None) != told
