"""A dead letter that is tried again: what ENRICH keeps of its history, and why SERVE's is not."""

from __future__ import annotations

import numpy as np
from fakes import enrich_world as world
from fakes.serve_world import NO_SCORE, Run, block

from headrace.schemas.deadletter import Tried, redrive_headers, split_headers
from headrace.schemas.errors import Source
from headrace.schemas.topics import topics_of
from headrace.streams.agents.enrich import EnrichAgent

AT = Source("headrace.press.deadletter.v1", 2, 17)


async def test_a_redriven_event_that_dies_again_keeps_its_history():
    """The next dead letter counts the try, and knows when the event was first seen."""
    spec = world.pipeline()
    agent = EnrichAgent(spec, topics_of(spec), numerics="n")
    again = redrive_headers([("ce_id", b"7")], AT, Tried(2, 1234))
    records = world.batch([b"{", b"{"], headers=[again, ()])
    effects = await agent.process(agent.new_state("telemetry", 2), records, rebuilt=False)
    (dead,) = effects.outputs

    assert dead.headers is not None
    (own, second), (_, first) = map(split_headers, dead.headers)
    assert list(own) == again
    assert (second["attempt"], second["first_seen"]) == (b"2", b"1234")
    assert (first["attempt"], first["first_seen"]) == (b"1", b"%d" % records.log_times_ms[1])


async def test_a_row_that_the_model_refused_would_be_dropped_as_served():
    """SERVE counts a refused row as served, so its dead letter put back changes nothing.

    This is why `headrace deadletter redrive` leaves SERVE's: the next block's offsets pass the
    row's, whether it was scored or not.
    """
    run = Run()
    features = np.array([[1.0, 2.0], [NO_SCORE, 0.0], [3.0, 4.0]])
    effects = await run.batch(block(3, features=features))
    (refused,) = [o for o in effects.outputs if "deadletter" in o.topic]

    again = await run.batch(refused.values[0], offset=1)

    assert again.counts == {"in": 1, "out": 0, "dead": 0, "late": 0, "repeated": 1}
    assert again.outputs == []
