"""When small batches begin, and when the bus is asked for more."""

from __future__ import annotations

import numpy as np

from headrace.schemas.batch import RecordBatch
from headrace.streams.transport.flow import Delivered, Flow, Piece
from headrace.streams.transport.rounds import GATHER_S, LITTLE_BYTES, PACE_S, ROUND_S, Rounds

NOW = 100.0


def flows(count: int) -> list[Flow]:
    return [
        Flow(
            ("t", number),
            0,
            committed=None,
            batch_rows=1000,
            max_in_flight=2,
            held_bytes=1 << 30,
            changed=lambda: None,
        )
        for number in range(count)
    ]


def fetch(flow: Flow, size: int = 100) -> None:
    flow.arrived_rows += 1
    flow.arrived_bytes += size
    at = np.array([flow.read])
    flow.offer(Piece(RecordBatch("t", flow.partition[1], at, at, [None], [b"v"], None), size))


def take(flow: Flow) -> Delivered:
    delivered = flow.take(NOW)
    assert delivered is not None
    return delivered


def begun(rounds: Rounds, of: list[Flow], now: float) -> list[Delivered]:
    """A round of all that have something."""
    for flow in of:
        fetch(flow)
    assert rounds.begin(of, now) == now
    return [take(flow) for flow in of]


def test_those_that_began_lately_are_waited_for() -> None:
    """For a moment; then the others begin without them."""
    rounds, (one, two) = Rounds(), flows(2)
    assert begun(rounds, [one, two], NOW)
    for flow in (one, two):
        flow._open[0].done()
    later = NOW + PACE_S
    fetch(one)
    assert rounds.begin([one, two], later) == later + GATHER_S
    assert not rounds.holds([one, two], later)  # the other one is asked for
    assert rounds.begin([one, two], later + GATHER_S / 2) == later + GATHER_S
    fetch(two)
    assert rounds.holds([one, two], later)
    assert rounds.begin([one, two], later + GATHER_S / 2) == later + GATHER_S / 2


def test_who_has_nothing_for_two_rounds_is_not_waited_for() -> None:
    """A partition that fell silent costs the others one or two moments."""
    rounds, (one, two) = Rounds(), flows(2)
    for delivered in begun(rounds, [one, two], NOW):
        delivered.done()
    now, waited = NOW, []
    for _ in range(4):
        now += PACE_S
        fetch(one)
        waited.append(rounds.begin([one, two], now) > now)
        if waited[-1]:
            now += GATHER_S
            assert rounds.begin([one, two], now) == now
        take(one).done()
    assert waited == [True, True, False, False]


def test_a_partition_that_is_not_ours_any_more_is_not_waited_for() -> None:
    """After a rebalance."""
    rounds, (one, two) = Rounds(), flows(2)
    for delivered in begun(rounds, [one, two], NOW):
        delivered.done()
    fetch(one)
    assert rounds.begin([one], NOW + PACE_S) == NOW + PACE_S


def test_a_round_waits_for_the_one_in_hand_and_for_its_pace() -> None:
    """The first for 20 ms at most."""
    rounds, (one, two) = Rounds(), flows(2)
    in_hand = begun(rounds, [one, two], NOW)
    fetch(one), fetch(two)
    assert rounds.begin([one, two], NOW + PACE_S) == NOW + ROUND_S
    assert rounds.begin([one, two], NOW + ROUND_S) == NOW + ROUND_S  # but nothing is ready
    for delivered in in_hand:
        delivered.done()
    assert rounds.begin([one, two], NOW + ROUND_S / 2) == NOW + ROUND_S / 2
    for flow in (one, two):
        take(flow).done()
        fetch(flow)
    assert rounds.begin([one, two], NOW + ROUND_S / 2) == NOW + ROUND_S / 2 + PACE_S


def test_nothing_is_asked_for_while_a_round_is_in_hand() -> None:
    """Neither for those that are in it nor for others; a backlog is fetched ahead all the same."""
    rounds, all_of_them = Rounds(), flows(2)
    assert not rounds.holds(all_of_them, NOW)
    (delivered,) = begun(rounds, all_of_them[:1], NOW)
    assert rounds.holds(all_of_them, NOW + ROUND_S / 2)
    fetch(all_of_them[1], LITTLE_BYTES)
    assert not rounds.holds(all_of_them, NOW + ROUND_S / 2)
    take(all_of_them[1]).done()
    assert rounds.holds(all_of_them, NOW + ROUND_S / 2)
    assert not rounds.holds(all_of_them, NOW + ROUND_S)
    delivered.done()
    assert not rounds.holds(all_of_them, NOW + ROUND_S / 2)
