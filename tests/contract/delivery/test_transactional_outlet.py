"""Outputs and source offset become visible together or not at all, and by one owner only."""

from __future__ import annotations

import asyncio

import pytest
from fakes.outlet_worlds import START, MemoryWorld, OutletWorld
from fakes.transactions import MemoryOutlet, NeverFenced, OffsetsOutside

from headrace.schemas.errors import OwnershipLostError


async def test_outputs_and_offset_come_together(world: OutletWorld) -> None:
    """After `publish` a reader of committed records sees the outputs, and the group the offset."""
    one = world.worker()
    await world.take_over(one)
    await one.publish(world.outputs(b"a", b"b"), 7)
    await one.publish(world.outputs(b"c"), 8)

    assert await world.visible() == [b"a", b"b", b"c"]
    assert await world.offset() == 8


async def test_a_batch_without_outputs_moves_the_offset(world: OutletWorld) -> None:
    """Events that were all repeats are read once, too."""
    one = world.worker()
    await world.take_over(one)
    await one.publish([], 9)

    assert await world.visible() == []
    assert await world.offset() == 9


async def test_a_death_before_the_commit_leaves_nothing(world: OutletWorld) -> None:
    """Everything was sent: neither outputs nor offset are seen, and the next owner goes on."""
    one, two = world.worker(), world.worker()
    await world.take_over(one)
    await one.publish(world.outputs(b"a"), 6)
    there = world.hang_before_commit(one)
    publishing = asyncio.create_task(one.publish(world.outputs(b"b"), 7))
    await asyncio.wait_for(there.wait(), 20)

    assert await world.offset() == 6
    await world.take_over(two)
    assert await world.visible() == [b"a"]
    assert await world.offset() == 6
    await two.publish(world.outputs(b"b"), 7)
    assert await world.visible() == [b"a", b"b"]
    assert await world.offset() == 7
    publishing.cancel()


async def test_a_former_owner_is_fenced(world: OutletWorld) -> None:
    """Its transaction is refused as a lost ownership, and nothing of it is seen."""
    one, two = world.worker(), world.worker()
    await world.take_over(one)
    await one.publish(world.outputs(b"a"), 6)
    await world.take_over(two)
    with pytest.raises(OwnershipLostError):
        await one.publish(world.outputs(b"zombie"), 12)

    assert await world.visible() == [b"a"]
    assert await world.offset() == 6
    await two.publish(world.outputs(b"b"), 7)
    assert await world.visible() == [b"a", b"b"]


async def test_without_a_fence_nothing_is_published(world: OutletWorld) -> None:
    """A new or closed outlet has no right to publish until it was fenced."""
    one = world.worker()
    with pytest.raises(OwnershipLostError):
        await one.publish(world.outputs(b"a"), 6)
    await world.take_over(one)
    await one.close()
    with pytest.raises(OwnershipLostError):
        await one.publish(world.outputs(b"a"), 6)

    assert await world.visible() == []
    assert await world.offset() == START


async def test_a_cancelled_transaction_leaves_nothing(world: OutletWorld) -> None:
    """Cancelled half-way, then fenced by whoever comes next, be it the same worker."""
    one = world.worker()
    await world.take_over(one)
    there = world.hang_before_commit(one)
    publishing = asyncio.create_task(one.publish(world.outputs(b"a"), 6))
    await asyncio.wait_for(there.wait(), 20)
    publishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publishing
    await one.close()
    two = world.worker()
    await world.take_over(two)

    assert await world.visible() == []
    assert await world.offset() == START
    await two.publish(world.outputs(b"b"), 7)
    assert await world.visible() == [b"b"]


@pytest.mark.parametrize(
    ("bad", "claim"),
    [
        (OffsetsOutside, test_a_death_before_the_commit_leaves_nothing),
        (NeverFenced, test_a_former_owner_is_fenced),
    ],
)
async def test_the_contract_can_fail(bad: type[MemoryOutlet], claim) -> None:
    """Offsets sent outside the transaction, and an outlet that fences nobody, are found."""
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await claim(MemoryWorld(bad))
