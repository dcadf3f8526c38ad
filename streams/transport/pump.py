"""The fetch side: responses in, columns out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    CorruptRecordException,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from headrace.schemas.errors import StateError
from headrace.streams.bus.header_names import expect_any
from headrace.streams.transport import columnar
from headrace.streams.transport.flow import Flow, Piece
from headrace.streams.transport.options import Partition, log

Fetched = list[tuple[Flow, Piece]]

_IDLE_S = 1.0
_CORRUPT_TRIES = 3


class Pump:
    """Moves every fetched record of open partitions to the stage, as columns.

    A partition that holds enough is paused at the client, so the broker is not asked for more; it
    is resumed when the stage took its share.

    Args:
        consumer: The started client.
        read_committed: The end of a log is its last stable offset.
        columnar: Walk record batches (`columnar.read_partition`) rather than use `getmany`.
        deliver: Takes what was fetched, called with a non-empty list.
        out_of_range: Takes partitions whose position is outside the log.
    """

    def __init__(
        self,
        consumer: AIOKafkaConsumer[Any, Any],
        *,
        columnar: bool,
        read_committed: bool,
        deliver: Callable[[Fetched], None],
        out_of_range: Callable[[list[Partition]], None],
    ) -> None:
        self._consumer = consumer
        self._columnar = columnar
        self._committed_only = read_committed
        self._deliver = deliver
        self._out_of_range = out_of_range
        self._flows: dict[TopicPartition, Flow] = {}
        self._corrupt: Counter[TopicPartition] = Counter()
        self._exact: set[TopicPartition] = set()
        self._gone: set[str] = set()
        self.noticed: set[str] = set()
        """Topics that were seen to be gone, until what came in their place is seen, too."""

    def hold_all(self) -> None:
        """Forget all partitions; what is assigned now is not fetched until `open`.

        Each gets a position, or the client would ask the group for one again and again.
        """
        self._flows = {}
        for tp in self._consumer.assignment():
            self._consumer.pause(tp)
            self._consumer.seek(tp, 0)

    def open(self, flow: Flow) -> None:
        """Start fetching a partition at the flow's position."""
        tp = TopicPartition(*flow.partition)
        if tp in self._consumer.assignment():
            self._consumer.seek(tp, flow.read)
            self._flows[tp] = flow
            self.resume(flow)

    def pause(self, flow: Flow) -> None:
        """Ask the broker for nothing more of a partition."""
        tp = TopicPartition(*flow.partition)
        if self._flows.get(tp) is flow:
            flow.bus_paused = True
            self._consumer.pause(tp)

    def resume(self, flow: Flow) -> None:
        """Fetch a partition again, unless it still holds enough or is paused."""
        tp = TopicPartition(*flow.partition)
        if self._flows.get(tp) is flow and not flow.full and not flow.paused:
            self._consumer.resume(tp)
            flow.bus_paused = False

    async def run(self) -> None:
        """Fetch until cancelled.

        Raises:
            KafkaError: The group or the broker refused for good.
            StateError: A record batch fails its checksum each time it is read.
        """
        while True:
            if self._columnar:
                fetched = await self._next_columns()
            else:
                fetched = await self._next_records()
            if fetched:
                self._deliver(fetched)
            else:
                self._look_for_topics()

    def _look_for_topics(self) -> None:
        """Ask again where a topic is that the bus does not have.

        The client itself would ask once in minutes. When it is back, made anew, the group notices
        that its partitions have changed, and they are taken over.
        """
        client = self._consumer._client
        gone = {t for t in client._topics if client.cluster.partitions_for_topic(t) is None}
        if gone:
            client.force_metadata_update()
        for topic in gone - self._gone:
            log.warning("topic %r is gone from the bus; it is waited for", topic)
        self._gone = gone
        self.noticed |= gone

    async def _next_columns(self) -> Fetched:
        subscriptions, fetcher = self._consumer._subscription, self._consumer._fetcher
        self._consumer._coordinator.check_errors()
        if subscriptions.reassignment_in_progress:
            await subscriptions.wait_for_assignment()
        fetched: Fetched = []
        try:
            self._drain(fetcher, fetched)
        except Exception:
            if fetched:  # their positions have moved: they count, whatever came after them
                self._deliver(fetched)
            raise
        if fetched:
            return fetched
        waiter = fetcher._create_fetch_waiter()
        done, _ = await asyncio.wait([waiter], timeout=_IDLE_S)
        if done:
            waiter.result()
        else:
            waiter.cancel()
        return []

    def _drain(self, fetcher: Any, fetched: Fetched) -> None:
        lost: list[Partition] = []
        for tp in list(fetcher._records):
            found = fetcher._records.pop(tp)
            fetcher._notify(fetcher._wait_consume_future)
            if hasattr(found, "check_raise"):
                if self._outside_log(found, tp):
                    lost.append((tp.topic, tp.partition))
                continue
            flow = self._flows.get(tp)
            if flow is None or not _current(found, tp):
                continue
            piece = self._read(tp, found)
            if piece is not None:
                fetched.append((flow, self._arrived(flow, piece)))
        if lost:
            self._out_of_range(lost)

    def _outside_log(self, found: Any, tp: TopicPartition) -> bool:
        try:
            found.check_raise()
        except NoOffsetForPartitionError:
            return False  # asked in the moment before it was given a position
        except OffsetOutOfRangeError:
            return tp in self._flows
        return False

    def _read(self, tp: TopicPartition, found: Any) -> Piece | None:
        records = found._partition_records
        size = records._records.size_in_bytes()
        try:
            batch = columnar.read_partition(tp, records, exact=tp in self._exact)
        except columnar.GapError:
            self._exact.add(tp)  # a compacted log: fetched again, and read exactly from now on
            return None
        except UnicodeDecodeError:
            expect_any()  # a header's name: fetched again, and read
            return None
        except CorruptRecordException as error:
            self._corrupt[tp] += 1
            if self._corrupt[tp] >= _CORRUPT_TRIES:
                raise StateError(
                    f"a record batch of {tp.topic}[{tp.partition}] at or after offset "
                    f"{self._flows[tp].read} failed its checksum {_CORRUPT_TRIES} times; "
                    f"check the broker's disk, then delete the records or move the group past them"
                ) from error
            log.warning("checksum wrong in %s[%d]; fetched again", tp.topic, tp.partition)
            return None
        self._corrupt.pop(tp, None)
        found._update_position()
        position = records.next_fetch_offset
        last = None if batch is None else batch.next
        self._flows[tp].fetched(last, position, self._end(tp) or position)
        # Its unused generator refers back to it: unbroken, the cycle would hold the response's
        # bytes until the next full garbage collection.
        records._records_iterator = None
        return None if batch is None else Piece(batch, size)

    def _arrived(self, flow: Flow, piece: Piece) -> Piece:
        # Counted, and paused if need be, before the loop hears of it: so the loop, when it takes
        # the rows, always sees a pause that it has to lift.
        flow.arrived_rows += len(piece.records)
        flow.arrived_bytes += piece.size
        if flow.full:
            self.pause(flow)
        return piece

    def _end(self, tp: TopicPartition) -> int | None:
        client = self._consumer
        end: int | None = (
            client.last_stable_offset(tp) if self._committed_only else client.highwater(tp)
        )
        return end

    async def _next_records(self) -> Fetched:
        try:
            found = await self._consumer.getmany(timeout_ms=int(_IDLE_S * 1000))
        except NoOffsetForPartitionError:
            return []
        except OffsetOutOfRangeError as error:
            lost = [tp for tp in error.args[0] if tp in self._flows]
            self._out_of_range([(tp.topic, tp.partition) for tp in lost])
            return []
        except UnicodeDecodeError:
            expect_any()
            for tp, open_flow in self._flows.items():
                self._consumer.seek(tp, open_flow.read)
            return []
        fetched: Fetched = []
        for tp, records in found.items():
            flow = self._flows.get(tp)
            if flow is not None and records:
                size = sum(len(record.value or b"") + len(record.key or b"") for record in records)
                piece = Piece(columnar.from_records(tp, records), size)
                self._note(tp, flow, piece.records.next)
                fetched.append((flow, self._arrived(flow, piece)))
        for tp, flow in self._flows.items():
            self._note(tp, flow, None)
        return fetched

    def _note(self, tp: TopicPartition, flow: Flow, last: int | None) -> None:
        """How far the public way came, which also passes markers without a word."""
        assignment = self._consumer._subscription.subscription.assignment
        state = assignment.state_value(tp) if assignment is not None else None
        if state is not None and state.has_valid_position:
            position = state.position
            flow.fetched(last, position, self._end(tp) or position)


def _current(found: Any, tp: TopicPartition) -> bool:
    # As FetchResult.check_assignment, but a paused partition's response is kept, not fetched anew.
    if not found.has_more() or not found._assignment.active:
        return False
    state = found._assignment.state_value(tp)
    return bool(state.position == found._partition_records.next_fetch_offset)
