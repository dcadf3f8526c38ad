"""What goes into one transaction, and whom its failure concerns."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition

from headrace.schemas.errors import BusUnavailableError, HeadraceError, OwnershipLostError
from headrace.streams.transport.group_offsets import Member
from headrace.streams.transport.transactional_outlet import TransactionalOutlet
from headrace.streams.transport.transactions import Share, Transactions

NOW, BEFORE = Member("me", 7), Member("me", 6)


class Place:
    """A place in a group that nobody disturbs."""

    member = NOW

    async def offset_note(self, partition: tuple[str, int]) -> str:
        return ""


class Scripted(Transactions):
    """Transactions without a bus: which shares went together, and what befell them."""

    there = True

    def __init__(self, *fates: HeadraceError | None, bad: int | None = None) -> None:
        super().__init__({}, "group", "name", Place())
        self.rounds: list[list[int]] = []
        self.fates = list(fates)
        self.bad = bad
        self.gate = asyncio.Event()
        self.gate.set()

    async def _transaction(self, shares: Sequence[Share], fill_s: float) -> None:
        self.rounds.append([share.source.partition for share in shares])
        await self.gate.wait()
        fate = self.fates.pop(0) if self.fates else None
        if fate is None and self.bad in self.rounds[-1]:
            fate = BusUnavailableError("one partition does not answer")
        if fate is not None:
            raise fate

    async def _answers(self) -> bool:
        return self.there

    def join(self, partitions: Iterable[int]) -> None:
        """These are ours."""
        self._sources.update(TopicPartition("source", partition) for partition in partitions)

    def put(self, partition: int, member: Member = NOW) -> asyncio.Task[None]:
        """A lane that publishes."""
        share = Share(TopicPartition("source", partition), [], 1, member)
        return asyncio.create_task(self.publish(share))


async def outcomes(*lanes: asyncio.Task[None]) -> list[Any]:
    """None, or the error each lane got."""
    return await asyncio.gather(*lanes, return_exceptions=True)


async def test_what_is_ready_in_one_turn_goes_together() -> None:
    """Four lanes of one round cost one transaction."""
    bus = Scripted()
    assert await outcomes(*map(bus.put, range(4))) == [None] * 4
    assert bus.rounds == [[0, 1, 2, 3]]


async def test_what_comes_meanwhile_goes_together_next() -> None:
    """Nobody waits for a lane that is slow, and nobody is left out."""
    bus = Scripted()
    bus.gate.clear()
    lanes = [bus.put(0)]
    while not bus.rounds:
        await asyncio.sleep(0)
    lanes += [bus.put(1), bus.put(2)]
    await asyncio.sleep(0)
    bus.gate.set()
    assert await outcomes(*lanes) == [None] * 3
    assert bus.rounds == [[0], [1, 2]]


GATHER_S = "headrace.streams.transport.transactions.GATHER_S"


async def test_partitions_that_take_turns_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever had a share of late is waited for: what came in turns becomes one round of all."""
    monkeypatch.setattr(GATHER_S, 60.0)
    bus = Scripted()
    bus.join(range(3))
    bus.gate.clear()
    lanes = [bus.put(0)]
    while not bus.rounds:
        await asyncio.sleep(0)
    lanes += [bus.put(1), bus.put(2)]
    bus.gate.set()
    await lanes[0]
    lanes.append(bus.put(0))
    assert await outcomes(*lanes) == [None] * 4
    assert bus.rounds == [[0], [1, 2, 0]]


async def test_a_partition_that_rests_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds without it, or its leaving, and it is not waited for."""
    monkeypatch.setattr(GATHER_S, 0.0)
    bus = Scripted()
    bus.join(range(3))
    await outcomes(bus.put(0), bus.put(1), bus.put(2))
    await bus.rest(TopicPartition("source", 2))
    await outcomes(bus.put(0), bus.put(1))
    assert await outcomes(bus.put(0)) == [None]
    monkeypatch.setattr(GATHER_S, 60.0)
    lanes = [bus.put(0), bus.put(1)]
    assert await outcomes(*lanes) == [None] * 2
    monkeypatch.setattr(GATHER_S, 0.0)
    for _ in range(2):
        await outcomes(bus.put(0))
    monkeypatch.setattr(GATHER_S, 60.0)
    assert await outcomes(bus.put(0)) == [None]
    assert bus.rounds == [[0, 1, 2], [0, 1], [0], [0, 1], [0], [0], [0]]


async def test_one_that_does_not_answer_fails_alone() -> None:
    """The others, aborted with it, are done again one by one; the lane repeats its own."""
    bus = Scripted(bad=1)
    first, second, third = await outcomes(*map(bus.put, range(3)))
    assert (first, third) == (None, None)
    assert isinstance(second, BusUnavailableError)
    assert bus.rounds == [[0, 1, 2], [0], [1], [2]]
    bus.bad = None
    assert await outcomes(*map(bus.put, range(3))) == [None] * 3
    assert bus.rounds[-1] == [0, 1, 2], "together again"


async def test_a_bus_that_is_away_is_not_asked_for_each() -> None:
    """Nobody is to blame but the bus: every lane hears of it at once, and repeats its own."""
    bus = Scripted(bad=1)
    bus.there = False
    found = await outcomes(*map(bus.put, range(3)))
    assert [type(error) for error in found] == [BusUnavailableError] * 3
    assert len(bus.rounds) == 1


async def test_an_unknown_outcome_is_everybodys() -> None:
    """Each lane takes its partition over again; nothing is tried a second time."""
    bus = Scripted(OwnershipLostError("outcome not known"))
    found = await outcomes(*map(bus.put, range(3)))
    assert [type(error) for error in found] == [OwnershipLostError] * 3
    assert len(bus.rounds) == 1


async def test_a_share_from_before_the_rebalance_is_lost() -> None:
    """Its partition may be another worker's: it must not go under the new generation."""
    bus = Scripted()
    stale, fresh = await outcomes(bus.put(0, BEFORE), bus.put(1))
    assert isinstance(stale, OwnershipLostError)
    assert fresh is None
    assert bus.rounds == [[1]]


async def test_a_share_nobody_waits_for_is_left_out() -> None:
    """A lane cancelled in the queue is gone; one cancelled in the transaction harms nobody."""
    bus = Scripted()
    bus.gate.clear()
    opened = bus.put(0)
    while not bus.rounds:
        await asyncio.sleep(0)
    queued, kept = bus.put(1), bus.put(2)
    await asyncio.sleep(0)
    opened.cancel()
    queued.cancel()
    await asyncio.sleep(0)
    bus.gate.set()
    found = await outcomes(opened, queued, kept)
    assert [type(error) for error in found[:2]] == [asyncio.CancelledError] * 2
    assert found[2] is None
    assert bus.rounds == [[0], [2]]


async def test_at_the_end_nobody_waits_for_ever() -> None:
    """Whoever still waits when the worker lets go is told."""
    bus = Scripted()
    bus.gate.clear()
    lanes = [bus.put(0)]
    while not bus.rounds:
        await asyncio.sleep(0)
    lanes.append(bus.put(1))
    await asyncio.sleep(0)
    await bus.close()
    found = await outcomes(*lanes)
    assert [type(error) for error in found] == [OwnershipLostError] * 2


@pytest.mark.parametrize("member", [Member("", 0), Member("me", -1), Member("", 3)])
async def test_without_a_place_in_the_group_nothing_is_opened(member: Member) -> None:
    """The bus does not check offsets that name no generation: they must never be sent."""

    place = Place()
    place.member = member
    transactions = Transactions({}, "group", "name", place)
    with pytest.raises(OwnershipLostError):
        await TransactionalOutlet(transactions, "source", 0).fence()
