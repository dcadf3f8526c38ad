"""One transactional producer for all partitions of a worker: who is shut out, and who is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fakes.outlet_worlds import START, KafkaWorker, KafkaWorld, hang

from headrace.schemas.errors import OwnershipLostError
from headrace.streams.transport import former_owner
from headrace.streams.transport.group_offsets import Member
from headrace.streams.transport.transactional_producer import open_producer

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PATIENCE_S = 30.0


@pytest.fixture
def kafka(kafka_url: str) -> str:
    """The session's Kafka, started outside any event loop."""
    return kafka_url


@pytest.fixture
async def world(kafka: str, unique: Callable[[str], str]) -> AsyncIterator[KafkaWorld]:
    """Two source partitions, two output partitions, a group."""
    made = KafkaWorld(kafka, unique, partitions=2)
    await made.prepare()
    try:
        yield made
    finally:
        await made.end()


async def owner_of_both(world: KafkaWorld) -> tuple[KafkaWorker, Any, Any]:
    """A worker that has taken both partitions over."""
    worker = world.process()
    await world.join(worker)
    outlets = worker.outlet(0), worker.outlet(1)
    for outlet in outlets:
        assert await worker.take_over(outlet) == START
    return worker, *outlets


async def hung(world: KafkaWorld, worker: KafkaWorker, *publishing: Any) -> list[Any]:
    """Its lanes publish; everything was sent when the worker stops moving."""
    there = hang(worker.transactions, "_commit")
    tasks = [asyncio.create_task(one) for one in publishing]
    await asyncio.wait_for(there.wait(), PATIENCE_S)
    return tasks


async def test_two_partitions_share_a_transaction(world: KafkaWorld) -> None:
    """Both offsets move with it, and a worker that dies before its commit moves neither."""
    worker, zero, one = await owner_of_both(world)
    await asyncio.gather(
        zero.publish(world.outputs(b"a"), 6),
        one.publish(world.outputs(b"b", partition=1), 7),
    )
    assert [await world.visible(0), await world.visible(1)] == [[b"a"], [b"b"]]
    assert [await worker.place.offset(p) for p in (0, 1)] == [6, 7]

    left = await hung(
        world, worker,
        zero.publish(world.outputs(b"c"), 8), one.publish(world.outputs(b"d", partition=1), 9),
    )  # fmt: skip
    heir = world.process()
    await world.join(heir)
    assert [await heir.take_over(heir.outlet(p)) for p in (0, 1)] == [6, 7]
    assert [await world.visible(0), await world.visible(1)] == [[b"a"], [b"b"]]
    for task in left:
        task.cancel()


async def test_a_pending_offset_of_a_dead_worker_is_decided_at_the_takeover(
    world: KafkaWorld,
) -> None:
    """It held up the other partition only, with no outputs of ours: found by its age."""
    worker, zero, _ = await owner_of_both(world)
    left = await hung(world, worker, zero.publish(world.outputs(b"x", partition=1), 6))
    heir = world.process()
    await world.join(heir)
    outlet = heir.outlet(0)
    async with asyncio.timeout(former_owner.HUNG_S + PATIENCE_S):
        assert await heir.take_over(outlet) == START
    await outlet.publish(world.outputs(b"a"), 6)
    assert await world.visible(0) == [b"a"]
    assert await world.visible(1) == []
    left[0].cancel()


async def test_a_living_worker_with_other_partitions_is_left_alone(world: KafkaWorld) -> None:
    """A rebalance moved one partition; the transaction of the one it kept is not touched."""
    worker, zero, one = await owner_of_both(world)
    await zero.publish(world.outputs(b"a"), 6)
    committing = worker.transactions._commit
    left = await hung(world, worker, one.publish(world.outputs(b"b", partition=1), 6))
    heir = world.process()
    heir.place = worker.place  # the group has not moved on: both are members of this generation
    heir.transactions._membership = worker.place
    outlet = heir.outlet(0)
    assert await heir.take_over(outlet) == 6
    await outlet.publish(world.outputs(b"c"), 7)
    assert await world.visible(0) == [b"a", b"c"]
    left[0].cancel()
    producer = worker.transactions._producer
    assert producer is not None
    await committing(producer)
    assert await world.visible(1) == [b"b"]


async def test_a_member_of_an_older_generation_is_refused(world: KafkaWorld) -> None:
    """By the bus; its transaction is aborted, and nothing of it comes with the next one."""
    worker, zero, _ = await owner_of_both(world)
    await zero.publish(world.outputs(b"a"), 6)
    place = worker.place.member
    worker.place.member = Member(place.id, place.generation + 7)
    zero._member = worker.place.member
    with pytest.raises(OwnershipLostError, match="IllegalGenerationError"):
        await zero.publish(world.outputs(b"zombie"), 12)
    worker.place.member = place
    assert await worker.take_over(zero) == 6
    await zero.publish(world.outputs(b"b"), 7)
    assert await world.visible(0) == [b"a", b"b"]


async def test_what_was_aborted_does_not_come_with_the_next_commit(world: KafkaWorld) -> None:
    """aiokafka itself forgets, after such an error, what it has to abort."""
    worker, zero, _ = await owner_of_both(world)
    producer = await worker.transactions._opened()
    place = worker.place.member
    worker.place.member = zero._member = Member(place.id, place.generation + 7)
    with going_on(worker), pytest.raises(OwnershipLostError):
        await zero.publish(world.outputs(b"zombie"), 12)
    worker.place.member = zero._member = place
    await zero.publish(world.outputs(b"a"), 6)
    assert worker.transactions._producer is producer
    assert await world.visible(0) == [b"a"]


@contextmanager
def going_on(worker: KafkaWorker) -> Iterator[None]:
    """Its producer is kept after an error, and its offsets follow once its records are there.

    A record that the error meets on its way would leave a gap in the producer's sequence.
    """
    producer = worker.transactions._producer
    assert producer is not None
    offsets = producer.send_offsets_to_transaction

    async def after_the_records(*args: Any) -> None:
        await producer.flush()
        await offsets(*args)

    async def kept() -> None:
        """Nothing: the producer goes on."""

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(worker.transactions, "_let_go", kept)
        patched.setattr(producer, "send_offsets_to_transaction", after_the_records)
        yield


async def test_a_worker_whose_id_was_opened_takes_over_again(world: KafkaWorld) -> None:
    """Shut out by mistake, it loses the round in hand and nothing else."""
    worker, zero, one = await owner_of_both(world)
    await zero.publish(world.outputs(b"a"), 6)
    other = await open_producer(world.options, worker.name)
    with pytest.raises(OwnershipLostError):
        await zero.publish(world.outputs(b"lost"), 7)
    await other.stop()
    assert [await worker.take_over(outlet) for outlet in (zero, one)] == [6, START]
    await zero.publish(world.outputs(b"b"), 7)
    assert await world.visible(0) == [b"a", b"b"]
    assert await worker.place.offset(0) == 7
