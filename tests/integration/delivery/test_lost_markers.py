"""A transaction that the bus calls ended, and whose end is in not every partition."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import NotLeaderForPartitionError
from fakes.outlet_worlds import START, KafkaWorker, KafkaWorld
from fakes.services import running

from headrace.schemas.errors import BusUnavailableError
from headrace.streams.bus.lost_markers import Seen, described
from headrace.streams.local.kafka_config import KafkaOptions
from headrace.streams.local.local_kafka import LocalKafka
from headrace.streams.transport import mending
from headrace.streams.transport.transactional_producer import discard, open_producer
from headrace.streams.transport.transactions import transactional_id
from headrace.streams.transport.undecided import undecided

pytestmark = [pytest.mark.integration, pytest.mark.slow]

UNCHECKED = KafkaOptions(properties={"transaction.partition.verification.enable": "false"})


@pytest.fixture(scope="module")
def kafka() -> Iterator[str]:
    """Takes records of a partition that their transaction's coordinator was not told of."""
    yield from running(LocalKafka(options=UNCHECKED))


@pytest.fixture
async def world(kafka: str, unique: Callable[[str], str]) -> AsyncIterator[KafkaWorld]:
    """Two source partitions, two output partitions, a group."""
    made = KafkaWorld(kafka, unique, partitions=2)
    await made.prepare()
    try:
        yield made
    finally:
        await made.end()


async def ended_without_its_end(
    world: KafkaWorld, worker: KafkaWorker, value: bytes, upto: int, *, commit: bool
) -> AIOKafkaProducer:
    """The worker's transaction over source partition 0, of which the bus ends a part only.

    Records and offset are in it as far as readers and group are concerned; the coordinator was
    told of output partition 1 alone, as if the other ends had been lost.
    """
    producer = await worker.transactions._opened()
    manager = producer._txn_manager
    manager.consumer_group_to_add = lambda: None
    await producer.begin_transaction()
    await producer.send_and_wait(world.out, b"whole", partition=1)
    manager._txn_partitions.add(TopicPartition(world.out, 0))
    await producer.send_and_wait(world.out, value, partition=0)
    manager._txn_consumer_group = world.group
    assert worker.transactions._offsets is not None
    worker.transactions._offsets.member = worker.place.member
    source = TopicPartition(world.source, 0)
    await producer.send_offsets_to_transaction({source: (upto, worker.name)}, world.group)
    await (producer.commit_transaction() if commit else producer.abort_transaction())
    return producer


async def owner(world: KafkaWorld) -> tuple[KafkaWorker, Any]:
    """A worker that has taken partition 0 over."""
    worker = world.process()
    await world.join(worker)
    outlet = worker.outlet(0)
    assert await worker.take_over(outlet) is not None
    return worker, outlet


@pytest.mark.parametrize(("commit", "offset", "seen"), [(True, 9, [b"a"]), (False, START, [])])
async def test_a_new_owner_writes_the_end_that_was_decided(
    world: KafkaWorld,
    caplog: pytest.LogCaptureFixture,
    commit: bool,
    offset: int,
    seen: list[bytes],
) -> None:
    """What was committed becomes visible, with its offset; what was aborted never does."""
    worker, _ = await owner(world)
    await ended_without_its_end(world, worker, b"a", 9, commit=commit)
    with pytest.raises(BusUnavailableError, match="waits for a transaction"):
        await worker.place.offset(0)
    heir = world.process()
    await world.join(heir)
    outlet = heir.outlet(0)
    assert await heir.take_over(outlet) == offset
    assert await world.visible(0) == seen
    await outlet.publish(world.outputs(b"b"), 12)
    assert await world.visible(0) == [*seen, b"b"]
    said = "committed" if commit else "aborted"
    lines = [line for line in caplog.messages if "its end is written" in line]
    assert len(lines) == 1
    assert f"was {said} by the bus" in lines[0]
    assert f"{world.out}[0]@0" in lines[0]


async def test_the_worker_itself_writes_it_before_its_id_is_opened_anew(world: KafkaWorld) -> None:
    """After a commit without an answer it opens the same id again, and the bus forgets."""
    worker, outlet = await owner(world)
    await ended_without_its_end(world, worker, b"a", 9, commit=True)
    await worker.transactions._let_go()
    assert await worker.take_over(outlet) == 9
    assert await world.visible(0) == [b"a"]


@pytest.mark.parametrize("missing", ["may_write_markers", "open_in"])
async def test_without_the_right_to_it_nothing_is_forgotten(
    world: KafkaWorld,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    missing: str,
) -> None:
    """It is told once; the decision stays with the bus for one who may, and is written then."""
    seeing = mending.open_in

    async def forbidden(client: Any, *args: Any) -> Any:
        if missing == "may_write_markers":
            return False
        seen = await seeing(client, *args)
        return Seen([one for one in seen.hanging if one.part.topic == world.out], whole=False)

    worker, _ = await owner(world)
    await ended_without_its_end(world, worker, b"a", 9, commit=True)
    heir = world.process()
    await world.join(heir)
    outlet = heir.outlet(0)
    with monkeypatch.context() as patched:
        patched.setattr(mending, missing, forbidden)
        for _ in range(2):
            await outlet.fence()
    assert len([line for line in caplog.messages if "undecided --mend" in line]) == 1
    with pytest.raises(BusUnavailableError):
        await heir.place.offset(0)
    operator = world.process()
    await world.join(operator)
    assert await operator.take_over(operator.outlet(0)) == 9
    assert await world.visible(0) == [b"a"]


async def test_what_the_bus_forgot_stays_as_it_is(world: KafkaWorld) -> None:
    """Its id was opened since: nobody knows what was decided, so nothing becomes visible."""
    worker, _ = await owner(world)
    producer = await ended_without_its_end(world, worker, b"a", 9, commit=True)
    await discard(await open_producer(world.options, worker.name))
    last = await described(producer.client, worker.name)
    assert last is not None
    assert last.state == "Empty"
    heir = world.process()
    await world.join(heir)
    await heir.outlet(0).fence()
    with pytest.raises(BusUnavailableError):
        await heir.place.offset(0)
    assert await world.visible(0) == []
    assert await world.visible(1) == [b"whole"]
    [found] = await undecided(world.options, [world.group], [world.out], mend=True)
    assert found.fate == "forgotten"


async def test_a_decision_is_kept_until_it_is_written(
    world: KafkaWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bus forgets it when the id is opened; who opened it tries again."""
    worker, _ = await owner(world)
    await ended_without_its_end(world, worker, b"a", 9, commit=True)
    heir = world.process()
    await world.join(heir)
    outlet = heir.outlet(0)

    async def no_answer(*args: Any, **more: Any) -> None:
        raise NotLeaderForPartitionError

    with monkeypatch.context() as patched:
        patched.setattr(mending, "write_marker", no_answer)
        with pytest.raises(BusUnavailableError):
            await outlet.fence()
    last = await described((await heir.transactions._opened()).client, worker.name)
    assert last is not None
    assert last.committed is None
    assert await heir.take_over(outlet) == 9
    assert await world.visible(0) == [b"a"]


async def test_an_operator_sees_and_mends_it(world: KafkaWorld) -> None:
    """Also while no worker runs; a transaction in work is left to its owner."""
    worker, _ = await owner(world)
    async with owned_by_nobody(world) as name:
        await ended_without_its_end(world, worker, b"a", 9, commit=True)
        for mend, fate in ((False, "committed"), (True, "mended")):
            found = await undecided(world.options, [world.group], [world.out], mend=mend)
            assert {one.transactional_id: one.fate for one in found} == {
                worker.name: fate,
                name: "open",
            }
            [lost] = [one for one in found if one.transactional_id == worker.name]
            assert f"{world.out}[0]@0" in lost.places
            assert lost.places[0].startswith("__consumer_offsets[")
    assert await undecided(world.options, [world.group], [world.out], mend=True) == []
    assert await world.visible(0) == [b"a"]
    assert await world.offset(0) == 9


@asynccontextmanager
async def owned_by_nobody(world: KafkaWorld) -> AsyncIterator[str]:
    """A transaction of another worker of the group, in work."""
    name = transactional_id(world.group)
    producer = await open_producer(world.options, name)
    await producer.begin_transaction()
    await producer.send_and_wait(world.out, b"in work", partition=1)
    yield name
    await producer.abort_transaction()
    await discard(producer)


async def test_a_living_worker_is_not_shut_out(world: KafkaWorld) -> None:
    """Whose transactions are whole is looked at only, however many of them."""
    worker, outlet = await owner(world)
    other = world.process()
    other.place = worker.place
    for value, upto in ((b"a", 6), (b"b", 7), (b"c", 8)):
        await outlet.publish(world.outputs(value), upto)
        client = (await other.transactions._opened()).client
        assert await other.transactions._mending.mend(client, worker.name) is None
    assert await world.visible(0) == [b"a", b"b", b"c"]
