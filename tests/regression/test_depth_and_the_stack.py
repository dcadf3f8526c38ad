"""A record's verdict hung on the caller's stack: dead in a worker, alive in a replay."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fakes import enrich_world as world

from headrace.enrichers.decode import Decoder
from headrace.enrichers.depth import DEEPEST
from headrace.schemas.input import Input, Metric

GOOD = world.event("e", "d", world.START_MS, load=1.0)


def below(frames: int, act: Callable[[], str | None]) -> str | None:
    """Call from that many frames further down."""
    return act() if frames == 0 else below(frames - 1, act)


@pytest.mark.parametrize(
    ("levels", "expected"), [(DEEPEST - 1, None), (DEEPEST, "json.depth"), (900, "json.depth")]
)
@pytest.mark.parametrize("frames", [0, 200, 400])
@pytest.mark.parametrize("inside", ["field", "string"])
def test_the_verdict_is_the_same_everywhere(
    levels: int, expected: str | None, frames: int, inside: str
) -> None:
    """So many levels under one field, seen from any depth; brackets in a text are none."""
    nest = b"[" * levels + b"]" * levels
    added = b',"more":' + nest if inside == "field" else b',"more":"\\"' + nest * 5 + b'"'
    value = GOOD[:-1] + added + b"}"

    def verdict() -> str | None:
        return Decoder(Input(metrics={"load": Metric()}))(world.batch([value])).dead.get(0)

    assert below(frames, verdict) == (expected if inside == "field" else None)
