"""Whatever lives the workers had, what they served is reproduced; any one bit changed is found."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import msgspec
import numpy as np
from fakes.replay_world import World
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.block import FeatureBlock
from headrace.streams.replay.ranges import Span
from headrace.streams.replay.reproduce import reproduce

LIVES = st.lists(
    st.tuples(st.integers(1, 60), st.sampled_from([0, 0, 5, 30]), st.booleans(), st.integers(1, 3)),
    min_size=1,
    max_size=4,
)


async def lived(folder: Path, seed: int, lives: list[tuple[int, int, bool, int]]) -> World:
    """A world that lived so: events sent, records repeated, snapshot kept, model."""
    world = World(folder, seed)
    world.send(20)
    await world.live()
    for events, repeat, snapshot, model in lives:
        world.model(model)
        world.send(events)
        await world.live(repeat=repeat, snapshot=snapshot)
    return world


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), LIVES, st.data())
def test_any_past_is_reproduced_and_any_bit_found(seed, lives, data):
    """Any stretch of any past; and a bit planted anywhere in it is the one that is named."""

    async def check(folder: Path) -> None:
        world = await lived(folder, seed, lives)
        end = len(world.logs.log(world.source, 0).values)
        start = data.draw(st.integers(0, end - 1))
        found = await reproduce(world.past(), [Span(0, start, end)])
        assert found.differing_bits == 0, msgspec.to_builtins(found)
        assert found.reproduced or not found.features.compared, msgspec.to_builtins(found)
        whole = await reproduce(world.past(), [Span(0, 0, end)])
        assert whole.reproduced, msgspec.to_builtins(whole)

        log = world.logs.log(world.topics.features.name, 0)
        at = data.draw(st.integers(0, len(log.values) - 1))
        block = FeatureBlock.decode(log.values[at] or b"")
        row = data.draw(st.integers(0, len(block) - 1))
        column = data.draw(st.integers(0, len(block.columns) - 1))
        bit = data.draw(st.integers(0, 51))
        block.features = block.features.copy()
        was = block.features[row, column]
        block.features.view(np.int64)[row, column] ^= 1 << bit
        log.values[at] = block.encode()
        found = await reproduce(world.past(), [Span(0, 0, end)])
        if np.isnan(was) and np.isnan(block.features[row, column]):
            assert found.reproduced  # missing is missing, whatever its bits
            return
        [one] = found.features.differences.first
        assert one.source == f"{world.source}[0]@{block.offsets[row]}"
        assert (one.column, one.bits) == (block.columns[column], 1)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(Path(folder)))
