"""Probes among the devices' events: for everything but their own predictions, as if not there."""

import asyncio
import itertools

import numpy as np
from fakes import enrich_world
from fakes.enrich_world import START_MS, event
from fakes.serve_world import Run, agent, block, pipeline, records
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.enrichers.enricher import Enricher
from headrace.schemas.block import Labels
from headrace.schemas.canary import Canary, probe_device

ROWS = 80
CANARY = {"canary": {"metrics": {"load": 1.0, "heat": 1.0}}}
DAY_MS = 86_400_000


def spec():
    made = pipeline(summary={"quantiles": True, "distinct": True, "frequent": 2})
    return type(made)(**{
        name: getattr(made, name) for name in made.__struct_fields__ if name != "canary"
    }, canary=Canary(**CANARY["canary"]))  # fmt: skip


def probed(made, places):
    """The block with the rows at these places made probes, a day ahead."""
    names = made.entities.names
    entities = [names[code] for code in made.entities.codes]
    made.event_times_ms = made.event_times_ms.copy()
    for place in places:
        entities[place] = probe_device(1)
        made.event_times_ms[place] += DAY_MS
    made.log_times_ms = np.maximum(made.log_times_ms, made.event_times_ms)
    made.entities = Labels.encode(entities)
    return made


def without(made, places):
    """The other rows, each at its own offset, as blocks between the gaps."""
    edges = [-1, *sorted(places), len(made)]
    return [made.slice(a + 1, b) for a, b in itertools.pairwise(edges) if b > a + 1]


async def served(blocks):
    run, timed = Run(agent(spec())), []
    for number, one in enumerate(blocks):
        effects = await run.batch(one, offset=number)
        if effects.timed is not None:
            timed += effects.timed.offsets.tolist()
    predictions = {p["source"]: p for p in run.predictions()}
    return run, timed, predictions


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 500),
    places=st.sets(st.integers(0, ROWS - 1), max_size=20),
    edge=st.integers(1, ROWS - 1),
)
def test_serve_sums_up_devices_alone(seed, places, edge):
    """Parts, summaries, what is watched and the other predictions are those of a log without."""
    whole = probed(block(ROWS, seed=seed), places)
    with_, timed, found = asyncio.run(served([whole.slice(0, edge), whole.slice(edge, ROWS)]))
    bare, bare_timed, others = asyncio.run(served(without(whole, places)))

    assert with_.parts() == bare.parts()
    assert with_.values("summaries") == bare.values("summaries")
    assert timed == bare_timed == sorted(set(range(ROWS)) - places)
    assert {k: found[k] for k in others} == others
    assert len(found) == ROWS
    assert (with_.counts["out"], with_.counts["canary"]) == (ROWS - len(places), len(places))
    assert with_.counts["in"] == ROWS


async def test_a_rest_among_probes_stays_where_it_is():
    """A partition that rests by the records around its probes closes the same windows."""
    whole = probed(block(40, seed=3), range(20, 30))
    rest = block(0, log_times_ms=np.empty(0, np.int64))
    runs = []
    for parts in ([whole.slice(0, 30)], without(whole.slice(0, 30), range(20, 30))):
        run = Run(agent(spec()))
        values = records(*parts, rest, whole.slice(30, 40))
        values.log_times_ms[:] = 10_000_000
        effects = await run.agent.process(run.state, values, rebuilt=False)
        await run.take(effects)
        runs.append(run)

    assert runs[0].parts() == runs[1].parts()
    assert runs[0].parts()


ENTRIES = st.lists(
    st.tuples(st.integers(0, 12_000), st.sampled_from("abc"), st.booleans()),
    min_size=1,
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(ENTRIES, st.lists(st.integers(1, 40), max_size=4), st.integers(-DAY_MS, DAY_MS))
def test_enrich_gives_devices_what_it_gave_them_without(entries, cuts, ahead_ms):
    """Every verdict and every bit of a device's features; whatever time the probes have."""
    plain = enrich_world.pipeline(max_skew_s=1e6)
    made = {name: getattr(plain, name) for name in plain.__struct_fields__} | {
        "canary": Canary(**CANARY["canary"])
    }
    enricher = Enricher(type(plain)(**made))
    values = [
        event(f"e{k}", probe_device(2), START_MS + ahead_ms, load=1.0)
        if probe
        else event(f"e{k}", name, START_MS + at, load=float(k))
        for k, (at, name, probe) in enumerate(entries)
    ]
    log = enrich_world.batch(values)
    real = [k for k, (_, _, probe) in enumerate(entries) if not probe]
    found = enrich_world.run(enricher, log, cuts).verdicts
    if real:
        bare = enrich_world.batch([values[k] for k in real])
        bare.offsets = np.array(real)
        alone = enrich_world.run(enricher, bare, []).verdicts
        assert {k: found[k] for k in real} == alone
    assert len(found) == len(entries)
