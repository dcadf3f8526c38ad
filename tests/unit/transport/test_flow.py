"""One partition's queue of batches: order, bounds and what may be committed."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from headrace.schemas.batch import RecordBatch, join_records
from headrace.streams.transport import flow as flow_module
from headrace.streams.transport.flow import Delivered, Flow, Piece, rounds


def records(first: int, count: int, *, headers: bool = False) -> RecordBatch:
    offsets = np.arange(first, first + count)
    values: list[bytes | None] = [b"%d" % offset for offset in offsets]
    rows = [[("h", b"%d" % offset)] for offset in offsets] if headers else None
    return RecordBatch("t", 0, offsets, offsets * 10, [None] * count, values, rows)


def flow(partition: int = 0, *, rows: int = 10, in_flight: int = 2, held: int = 1000) -> Flow:
    return Flow(
        ("t", partition),
        0,
        committed=None,
        batch_rows=rows,
        max_in_flight=in_flight,
        held_bytes=held,
        changed=lambda: None,
    )


def fetch(into: Flow, first: int, count: int, size: int = 100) -> None:
    into.arrived_rows += count
    into.arrived_bytes += size
    into.offer(Piece(records(first, count), size))


def take(from_flow: Flow, now: float = 1.0) -> Delivered:
    delivered = from_flow.take(now)
    assert delivered is not None
    return delivered


def test_fetches_are_cut_and_joined_to_batches() -> None:
    """Whatever the fetches' sizes, batches are as large as allowed and keep order and content."""
    one = flow(in_flight=10)
    for first, count in ((0, 3), (3, 4), (7, 15), (22, 1)):
        fetch(one, first, count)
    begun = [take(one), take(one)]
    assert one.take(1.0) is None  # the rest is no full batch: it waits for company
    for delivered in begun:
        delivered.done()
    batches = [delivered.records for delivered in (*begun, take(one))]
    assert [len(batch) for batch in batches] == [10, 10, 3]
    assert np.concatenate([batch.offsets for batch in batches]).tolist() == list(range(23))
    assert [value for batch in batches for value in batch.values] == [b"%d" % i for i in range(23)]
    assert one.take(1.0) is None


def test_joined_headers_are_complete() -> None:
    """Joining a batch with headers to one without gives every row a header list."""
    joined = join_records([records(0, 2), records(2, 1, headers=True)])
    assert joined.headers == [(), (), [("h", b"2")]]
    assert join_records([records(0, 1), records(1, 1)]).headers is None


def test_full_until_enough_was_taken() -> None:
    """Held rows or held bytes stop the fetching, and taking lifts it."""
    by_rows, by_bytes = flow(), flow(rows=100, held=150)
    fetch(by_rows, 0, 12)
    assert by_rows.full
    take(by_rows)
    assert not by_rows.full
    fetch(by_bytes, 0, 2)
    assert not by_bytes.full
    fetch(by_bytes, 2, 2)
    assert by_bytes.full
    assert len(take(by_bytes).records) == 2  # joined no further than the held bytes
    assert not by_bytes.full


def test_bound_counts_finished_batches_behind_an_open_one() -> None:
    """The bound holds until the head is finished, so a stuck head cannot pile up repeats."""
    one = flow(rows=1)
    fetch(one, 0, 5)
    head, second = take(one), take(one)
    second.done()
    assert one.take(1.0) is None
    assert one.uncommitted() == 0
    head.done()
    assert one.uncommitted() == 2
    assert one.in_flight == 0
    one.committed = 2
    assert one.uncommitted() is None


def test_done_twice_and_done_after_the_end_do_nothing() -> None:
    """An acknowledgement counts once, and never for a partition that was given up."""
    one = flow(rows=1)
    fetch(one, 0, 3)
    first, second = take(one), take(one)
    first.done()
    first.done()
    assert one.position == 1
    one.close()
    second.done()
    assert second.stale
    assert one.position == 1
    assert one.take(1.0) is None


def test_a_batch_given_back_comes_before_later_ones() -> None:
    """Given back, a batch is next, after its wait; batches behind it have to wait too."""
    one = flow(rows=1)
    fetch(one, 0, 4)
    first, second = take(one), take(one)
    one.give_back(first, not_before=5.0)
    assert one.must_wait(second)
    one.give_back(second)
    assert one.take(4.9) is None
    assert [take(one, 5.0), take(one, 5.0)] == [first, second]
    assert not one.must_wait(second)


def test_rounds_take_turns_and_begin_with_another_each_time() -> None:
    """One batch of each ready partition per round; nobody is always first."""
    flows = deque([flow(partition, rows=1, in_flight=3) for partition in range(3)])
    for one, count in zip(list(flows), (3, 1, 3), strict=True):
        fetch(one, 0, count)
    order = [delivered.flow.partition[1] for delivered in rounds(flows, 1.0)]
    assert sorted(order) == [0, 0, 0, 1, 2, 2, 2]
    assert set(order[:3]) == {0, 1, 2}
    assert order[0] != order[3]


def test_no_more_is_begun_than_a_stage_may_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is ready, batches beyond the bound wait until one of those in hand is done."""
    monkeypatch.setattr(flow_module, "OPEN_BYTES", 250)
    flows = deque([flow(partition, rows=1) for partition in range(5)])
    for one in flows:
        fetch(one, 0, 2)
    begun = list(rounds(flows, 1.0))
    assert [found.size for found in begun] == [50] * 5
    assert list(rounds(flows, 1.0)) == []
    begun[0].done()
    assert len(list(rounds(flows, 1.0))) == 1


def test_a_round_without_small_batches_hands_out_full_ones() -> None:
    """What waits for a round to end is small batches, never a full one."""
    flows = deque([flow(0), flow(1)])
    fetch(flows[0], 0, 3)
    fetch(flows[1], 0, 12)
    assert [len(found.records) for found in rounds(flows, 1.0, small=False)] == [10]
    assert sorted(len(found.records) for found in rounds(flows, 1.0)) == [3]


@pytest.mark.parametrize("state", ["paused", "closing"])
def test_nothing_is_taken_from_a_held_partition(state: str) -> None:
    """A paused partition, and one on its way out, hand out nothing."""
    one = flow()
    fetch(one, 0, 3)
    setattr(one, state, True)
    assert one.take(1.0) is None
    setattr(one, state, False)
    assert one.take(1.0) is not None


def test_markers_are_no_lag() -> None:
    """What lies behind the last record and holds none does not count once it was read past."""
    one = flow()
    fetch(one, 0, 3)
    one.fetched(3, 4, 4)
    assert one.lag == 4  # nothing is finished: the marker among it is not told apart
    take(one).done()
    assert one.position == 3
    assert one.lag == 0
    one.fetched(None, 6, 6)  # an aborted transaction and its marker
    assert one.lag == 0
    one.fetched(None, 6, 9)
    assert one.lag == 3
    fetch(one, 6, 3)
    one.fetched(9, 9, 9)
    assert one.lag == 6
    take(one).done()
    assert one.lag == 0
