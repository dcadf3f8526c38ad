"""Another [summary] in the middle of a stream: whatever is released after it is whole."""

import asyncio

import msgspec
import numpy as np
from fakes import serve_world
from fakes.serve_world import Final, agent, block, records
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.summary import SummaryRecord

PARTITIONS, ROWS, CUT = 2, 60, 6
OLD = {"idle_s": 20.0, "amend_s": 1e6}
NEW = [
    {"group_by": []},
    {"metrics": ["heat"]},
    {"quantiles": True},
    {"window_s": 5.0},
    {"window_s": 30.0},
]


def spec(**summary):
    return serve_world.pipeline(summary=OLD | summary, topics={"partitions": PARTITIONS})


def blocks(seed, partition):
    """Rows of 90 s in short blocks, some late, and the rest that ends them."""
    draw = np.random.default_rng((seed, partition))
    times = 1_000_000 + np.sort(draw.integers(0, 90_000, ROWS))
    logged = times.copy()
    times[10::9] -= 20_000
    made = block(ROWS, seed=seed, partition=partition, event_times_ms=times, log_times_ms=logged)
    cut = [made.slice(at, at + CUT) for at in range(0, ROWS, CUT)]
    found = [records(one, offset=n, partition=partition) for n, one in enumerate(cut)]
    rest = records(block(0, partition=partition), offset=len(cut), partition=partition)
    rest.log_times_ms = np.array([1_200_000])
    return [*found, rest]


class Partition:
    """SERVE of one partition under one pipeline file."""

    def __init__(self, made, partition):
        self.agent = agent(made)
        self.state = self.agent.new_state("features", partition)

    async def says(self, read):
        """What it writes of some records."""
        found = []
        for one in read:
            effects = await self.agent.process(self.state, one, rebuilt=False)
            effects.delta.fold()
            found += [v for o in effects.outputs if "partials" in o.topic for v in o.values]
        return found


def summaries(final):
    found = [msgspec.json.decode(value, type=SummaryRecord) for value in final.values()]
    return {(s.window_start_ms, s.group): s for s in found}, found


async def whole(seed, changed):
    """Every last answer where the file never was another."""
    final = Final(spec(**changed))
    for p in range(PARTITIONS):
        await final.batch(await Partition(spec(**changed), p).says(blocks(seed, p)))
    return summaries(final)[0]


async def changed_at(seed, changed, places, read_until):
    """Two files, one after the other: what each of them released."""
    logs = [blocks(seed, p) for p in range(PARTITIONS)]
    before, partials = Final(spec()), []
    for p, place in enumerate(places):
        partials += await Partition(spec(), p).says(logs[p][:place])
    read = round(read_until * len(partials))
    await before.batch(partials[:read])
    # Both begin anew, silently up to where the others came; the state of the others is set aside.
    after = Final(spec(**changed))
    await after.batch(partials[:read])
    assert after.outputs == []
    serves = [Partition(spec(**changed), p) for p in range(PARTITIONS)]
    for p, place in enumerate(places):
        await serves[p].says(logs[p][:place])
    await after.batch(partials[read:])
    for p, place in enumerate(places):
        for one in logs[p][place:]:
            await after.batch(await serves[p].says([one]))
    return before, after


@given(
    seed=st.integers(0, 10),
    changed=st.sampled_from(NEW),
    places=st.tuples(*[st.integers(0, ROWS // CUT)] * PARTITIONS),
    read_until=st.sampled_from([0.0, 0.5, 1.0]),
)
@settings(max_examples=25, deadline=None)
def test_what_is_released_after_a_change_is_whole(seed, changed, places, read_until):
    """Wherever each partition is: as if the file had always been so, or not released at all."""
    before, after = asyncio.run(changed_at(seed, changed, places, read_until))
    expected = asyncio.run(whole(seed, changed))
    last, found = summaries(after)
    told = {at for at, _ in last}

    for key, record in last.items():
        assert msgspec.structs.replace(record, rev=0) == msgspec.structs.replace(
            expected[key], rev=0, pipeline_digest=record.pipeline_digest
        )
    begun = after.state.lacking
    assert {at for at, _ in expected if at > begun} == told
    if "window_s" not in changed:
        assert not told & {at for at, _ in summaries(before)[0]}
    assert all(s.rev == 0 or (s.window_start_ms, s.group) in last for s in found)
